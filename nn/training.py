"""The training loop: the only one."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..backends import Adam, ConfigError, DataError, DivergenceError, Optimizer, Rows, Totals, TrainingJob
from ..backends.checked_plan import CheckedPlan, NotFinite
from .argument_checks import are_instances
from .callbacks import Callback
from .checkpoint import Checkpoint
from .datasets.dataset import Dataset, Split
from .divergence import Watch, diverged, is_finite
from .evaluation import check_rows
from .generators import make_generator
from .history import EpochResult, History
from .mlp import MLP
from .schedules import Schedule
from .training_run import TrainingRun
from .training_settings import TrainingSettings

CHUNK_SECONDS = 0.5  # aim of one `plan.run`, so that signals, progress and checkpoints come through
SHUFFLE_STREAM = 1  # keeps the order of rows independent of weights that were drawn from the same seed


def train(
    net: MLP,
    data: Dataset | Split,
    *,
    optimizer: Optimizer | None = None,
    epochs: int = 10,
    batch_size: int | None = 128,
    schedule: str | Schedule = "constant",
    warmup_steps: int = 0,
    l2: float = 0.0,
    shuffle: bool = True,
    evaluate_every: int = 1,
    precision: str = "full",
    seed: int | np.random.Generator = 0,
    callbacks: Sequence[Callback] = (),
    resume: Checkpoint | str | os.PathLike[str] | None = None,
    detect_anomaly: bool = False,
) -> History:
    """Train a network by gradient descent on the softmax cross-entropy of its logits.

    Args:
        net: the network, changed in place; its input scale and class names become the data's.
        data: training and test rows, or training rows alone.
        optimizer: how gradients become steps; Adam(1e-3) by default.
        epochs: passes over the training rows.
        batch_size: rows of one step, the last one of an epoch having what is left; None for all rows at once.
        schedule: what the learning rate is multiplied by over the steps: a row of `SCHEDULES`, or a function.
        warmup_steps: steps over which the learning rate first rises linearly.
        l2: the objective is the mean loss plus `l2 / 2` times the sum of the squared weights, biases left out.
        shuffle: whether every epoch has a new order of rows; a full batch has none.
        evaluate_every: epochs from one evaluation on the test rows to the next; epoch `epochs` always has one. Full
            batches between two are taken in one go, which saves a GPU from waiting for the host.
        precision: of matrix products: "full", that of the network's dtype, or less where the backend has it, such as
            "bfloat16" on a GPU.
        seed: of the generator that draws the orders, or the generator.
        callbacks: listeners.
        resume: where an earlier run of the same training stopped, or the file or run folder that says so; the run
            goes on from there, bit for bit.
        detect_anomaly: whether to look at the result of every operation, and stop at the first that is not finite;
            slow. Without it, the run is looked at after each chunk, and the step that went wrong is searched for then.

    Returns:
        One result an epoch, those of the resumed run included.

    Raises:
        ConfigError: an argument has a value that it cannot have, or the checkpoint is of another training.
        DataError: the data do not fit the network.
        ModelFileError: the checkpoint cannot be read.
        DivergenceError: the loss, a weight or the optimizer's state is no longer a finite number; the network then has
            the weights before the step that went wrong.
    """
    train_rows, test_rows = _checked_rows(net, data)
    settings = TrainingSettings(
        optimizer=Adam() if optimizer is None else optimizer,
        epochs=epochs,
        batch_size=len(train_rows) if batch_size is None else batch_size,
        schedule=schedule,
        warmup_steps=warmup_steps,
        l2=l2,
        shuffle=shuffle,
        evaluate_every=evaluate_every,
        rows=len(train_rows),
    )
    learning_rate = settings.learning_rate()
    if not are_instances(callbacks, Callback):
        raise ConfigError(f"callbacks must be a sequence of nn.Callback, got {callbacks!r:.80}")
    net.backend.check_precision(precision)
    if detect_anomaly and precision != "full":
        raise ConfigError(
            f"detect_anomaly computes in full precision, got precision={precision!r}: leave one of them out"
        )
    generator = make_generator(seed, stream=SHUFFLE_STREAM)
    if resume is not None:
        resume = resume if isinstance(resume, Checkpoint) else Checkpoint.load(resume)
        scale = data.scale if isinstance(data, Dataset) else net.input_scale
        resume.check_fits(net, settings.identity(net, train_rows, scale), settings)
        resume.check_generator(generator)
        generator.bit_generator.state = resume.generator_state  # nothing was changed before this line
        net.load_parameters(resume.parameters)
    if isinstance(data, Dataset):
        net.adopt(data)

    backend = net.backend
    placed = backend.place(train_rows.images, train_rows.labels, net.input_scale)
    placed_test = None if test_rows is None else backend.place(test_rows.images, test_rows.labels, net.input_scale)
    job = TrainingJob(
        net.layers, settings.optimizer, placed, settings.batch_size,
        l2=l2, learning_rate=learning_rate, precision=precision,
    )  # fmt: skip
    plan = CheckedPlan(backend, job) if detect_anomaly else backend.compile(job)
    run = TrainingRun(net, train_rows, settings, plan, generator)
    if resume is not None:
        run.restore(resume)
    _loop(run, placed_test, callbacks)
    return run.history


def _checked_rows(net: MLP, data: Dataset | Split) -> tuple[Split, Split | None]:
    """Return the rows to train on and those to test on, all of which fit the network."""
    if not isinstance(net, MLP):
        raise ConfigError(f"the network must be an nn.MLP, got {type(net).__name__}: make one, or nn.load one")
    if not isinstance(data, Dataset | Split):
        raise DataError(
            f"data must be an nn.Dataset or an nn.Split, got {type(data).__name__}: "
            "make one of arrays with nn.from_arrays(images, labels)"
        )
    if not net.are_finite():
        raise ConfigError("the network's weights must be finite numbers: make a new one, or load the last good one")
    if isinstance(data, Split):
        check_rows(net, data)
        return data, None
    net.check_fits(data)
    for rows in (data.train, data.test):
        check_rows(net, rows)
    labels = data.train.labels
    if labels.min() == labels.max():  # a Split may be a part of the rows
        raise DataError(f"the training rows must have two classes or more, got only {labels[0]}: add others")
    return data.train, data.test


def _loop(run: TrainingRun, test_rows: Rows | None, callbacks: Sequence[Callback]) -> None:
    """Take the steps, epoch by epoch and chunk by chunk, and tell the callbacks."""
    settings, watch = run.settings, Watch(run)
    chunk = settings.batch_size  # rows of the next chunk; grows to about CHUNK_SECONDS
    for callback in callbacks:
        callback.on_train_begin(run)
    while run.epoch <= settings.epochs and not run.stopped:
        run.mark_epoch_start()
        order = run.draw_order()
        while run.position < settings.rows and not run.stopped:
            started, before = time.perf_counter(), run.position
            sums = _take(run, order, chunk, has_test_rows=test_rows is not None)
            elapsed = time.perf_counter() - started
            _note(run, sums, elapsed)
            watch.check(sums)
            chunk = _next_chunk(len(sums) * run.position - before, elapsed, settings.batch_size)
            for callback in callbacks:
                callback.on_chunk_end(run)
        if run.position == settings.rows:
            is_due = run.epoch == settings.epochs or run.epoch % settings.evaluate_every == 0
            _finish_epoch(run, test_rows if is_due else None, callbacks)
    watch.check_state()
    for callback in callbacks:
        callback.on_train_end(run)


def _take(run: TrainingRun, order: npt.NDArray[np.int64] | None, rows: int, *, has_test_rows: bool) -> list[Totals]:
    """Take the steps of a chunk: of the next `rows` in `order`, or, without an order, of the epochs that they make."""
    settings = run.settings
    try:
        with np.errstate(all="ignore"):  # what comes out is looked at instead
            if order is not None:
                return [run.plan.run(order[run.position : run.position + rows], run.totals)]
            to_evaluation = settings.evaluate_every - (run.epoch - 1) % settings.evaluate_every
            to_end = settings.epochs + 1 - run.epoch
            return run.plan.run_epochs(min(rows // settings.rows, to_end, to_evaluation if has_test_rows else to_end))
    except NotFinite as error:
        raise diverged(run, error.step, error.found) from error


def _note(run: TrainingRun, sums: Sequence[Totals], elapsed: float) -> None:
    """Keep the sums of a chunk: of several epochs that were taken in one go, all but the last one are over."""
    for totals in sums[:-1]:
        run.history.append(_result(run.epoch, totals, None, elapsed / len(sums)))
        run.epoch += 1
    run.totals = sums[-1]
    run.position = run.totals.rows
    run.seconds += elapsed / len(sums)


def _finish_epoch(run: TrainingRun, test_rows: Rows | None, callbacks: Sequence[Callback]) -> None:
    """Evaluate the epoch, tell the callbacks of it and of those that were taken with it, and step to the next one."""
    test = None
    if test_rows is not None:
        with np.errstate(all="ignore"):
            test = run.net.backend.evaluate(run.net.layers, test_rows)
        if not is_finite([test]):
            rate = float(run.plan.job.learning_rates(run.plan.step, 1)[0])
            raise DivergenceError(
                f"the test loss of epoch {run.epoch} is {test.loss}, though the weights are finite: lower the learning "
                f"rate, which was {rate:.3g}, or see whether test rows have far larger features than training rows"
            )
    run.history.append(_result(run.epoch, run.totals, test, run.seconds))
    run.epoch, run.position, run.totals, run.seconds = run.epoch + 1, 0, Totals(), 0.0
    run.mark_epoch_start()
    told, run.told = run.told, len(run.history)
    for result in run.history[told:]:
        for callback in callbacks:
            callback.on_epoch_end(run, result)


def _result(epoch: int, train: Totals, test: Totals | None, seconds: float) -> EpochResult:
    return EpochResult(
        epoch=epoch,
        train_loss=train.loss,
        train_accuracy=train.accuracy,
        test_loss=None if test is None else test.loss,
        test_accuracy=None if test is None else test.accuracy,
        seconds=seconds,
    )


def _next_chunk(taken: int, elapsed: float, batch_size: int) -> int:
    """Return the rows of the next chunk: whole batches for about CHUNK_SECONDS, at most 4 times those just taken."""
    rows = taken * min(4.0, CHUNK_SECONDS / max(elapsed, 1e-9))
    return max(1, int(rows) // batch_size) * batch_size
