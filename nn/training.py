"""The training loop: the only one."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..backends import Adam, ConfigError, DivergenceError, Optimizer, Rows, Totals, TrainingJob
from ..backends.checked_plan import CheckedPlan, NotFinite
from .argument_checks import are_instances, are_whole
from .batches import Batches, Feed
from .callbacks import Callback
from .checkpoint import Checkpoint, OptimizerState
from .datasets.dataset import Dataset, Split
from .divergence import Watch, diverged, is_finite
from .early_stopping import EarlyStopping
from .generators import make_generator
from .history import EpochResult, History
from .mlp import MLP
from .row_weights import ClassWeight
from .schedules import Schedule
from .training_rows import training_rows
from .training_run import TrainingRun
from .training_settings import TrainingSettings

CHUNK_SECONDS = 0.5  # aim of one `plan.run`, so that signals, progress and checkpoints come through
SHUFFLE_STREAM = 1  # keeps the order of rows independent of weights that were drawn from the same seed
DROPOUT_STREAM = 2


def train(
    net: MLP,
    data: Dataset | Split | Batches,
    *,
    optimizer: Optimizer | None = None,
    epochs: int = 10,
    batch_size: int | None = 128,
    schedule: str | Schedule = "constant",
    warmup_steps: int = 0,
    l2: float = 0.0,
    l2_per_batch: bool = False,
    dropout: float = 0.0,
    class_weight: ClassWeight | None = None,
    clip_norm: float | None = None,
    accumulate: int = 1,
    shuffle: bool = True,
    validation: Split | float | None = None,
    early_stopping: EarlyStopping | None = None,
    evaluate_every: int = 1,
    precision: str = "full",
    seed: int | np.random.Generator = 0,
    callbacks: Sequence[Callback] = (),
    resume: Checkpoint | str | os.PathLike[str] | None = None,
    optimizer_state: OptimizerState | None = None,
    detect_anomaly: bool = False,
) -> History:
    """Train a network by gradient descent on its loss.

    Args:
        net: the network, changed in place; its input scale and class names become the data's.
        data: training and test rows, or training rows alone, which may have weights; or batches that come from outside,
            for which `batch_size` and `shuffle` mean nothing, and which can be resumed from the start of an epoch.
        optimizer: how gradients become steps; Adam(1e-3) by default.
        epochs: passes over the training rows.
        batch_size: rows whose gradient is taken at once, the last ones of an epoch being what is left; None for all.
        schedule: what the learning rate is multiplied by over the steps: a row of `SCHEDULES`, or a function.
        warmup_steps: steps over which the learning rate first rises linearly.
        l2: the objective is the mean loss plus `l2 / 2` times the sum of the squared weights, biases left out.
        l2_per_batch: whether `l2` is divided by the rows of each batch, as scikit-learn has its `alpha`.
        dropout: share of the hidden units that each step leaves out (Srivastava et al. 2014), in [0, 1).
        class_weight: how much the rows of each class count: "balanced", or weights by number or name of the class.
        clip_norm: the gradient of all parameters together is made no longer than this (Pascanu et al. 2013).
        accumulate: batches whose gradients are added up for one step: a step of `accumulate * batch_size` rows in the
            memory of `batch_size`.
        shuffle: whether every epoch has a new order of rows; a full batch has none.
        validation: rows to see after each epoch how the network does, or the share of the training rows to hold back.
        early_stopping: when to stop before the last epoch; the network then has the weights of its best epoch.
        evaluate_every: epochs from one evaluation to the next; epoch `epochs` always has one. Full batches between two
            are taken in one go, which saves a GPU from waiting for the host.
        precision: of matrix products: "full", that of the network's dtype, or less where the backend has it, such as
            "bfloat16" on a GPU.
        seed: of the generator that draws the orders, or the generator.
        callbacks: listeners.
        resume: where an earlier run of the same training stopped, or the file or run folder that says so; the run
            goes on from there, bit for bit.
        optimizer_state: where the optimizer of an earlier training of this network ended, `run.optimizer_state`; this
            one's begins there, on whatever rows, and its schedule anew.
        detect_anomaly: whether to look at the result of every operation, and stop at the first that is not finite;
            slow. Without it, the run is looked at after each chunk, and the step that went wrong is searched for then.

    Returns:
        One result an epoch, those of the resumed run included.

    Raises:
        ConfigError: an argument has a value that it cannot have, or the checkpoint is of another training.
        DataError: the data do not fit the network.
        ModelFileError: the checkpoint cannot be read.
        DivergenceError: the loss, a weight or the optimizer's state is no longer a finite number; the network then has
            the weights before the step that went wrong, or, of batches from outside, the last that were looked at.
    """
    if isinstance(data, Batches):
        data.check_options(schedule, warmup_steps, validation, class_weight, accumulate)
    train_rows, test_rows, validation_rows = training_rows(net, data, validation, class_weight, seed)
    feed, rows = None, len(train_rows)
    if isinstance(data, Batches):
        feed, rows, batch_size = Feed(data, net), data.steps_per_epoch or 1, 1  # its steps are counted, not its rows
    batch_size = rows if batch_size is None else batch_size
    settings = TrainingSettings(
        optimizer=Adam() if optimizer is None else optimizer,
        epochs=epochs,
        batch_size=batch_size * accumulate if are_whole([batch_size, accumulate], least=1) else batch_size,
        schedule=schedule,
        warmup_steps=warmup_steps,
        l2=l2,
        shuffle=shuffle,
        evaluate_every=evaluate_every,
        rows=rows,
        l2_per_batch=l2_per_batch,
        dropout=dropout,
        clip_norm=clip_norm,
        accumulate=accumulate,
        early_stopping=early_stopping,
        first_step=1 if optimizer_state is None else optimizer_state.step + 1,
        are_steps_known=not isinstance(data, Batches) or data.steps_per_epoch is not None,
    )
    learning_rate = settings.learning_rate()
    if not are_instances(callbacks, Callback):
        raise ConfigError(f"callbacks must be a list of nn.Callback, got {callbacks!r:.80}: put it in a list")
    if early_stopping is not None and early_stopping.needs_validation and validation is None:
        raise ConfigError(f"early stopping by the {early_stopping.monitor} needs validation rows: pass validation=0.1")
    if resume is not None and optimizer_state is not None:
        raise ConfigError("a resumed training has its own optimizer_state: leave one of them out")
    net.backend.check_precision(precision)
    if detect_anomaly and precision != "full":
        raise ConfigError(
            f"detect_anomaly computes in full precision, got precision={precision!r}: leave one of them out"
        )
    generator = make_generator(seed, stream=SHUFFLE_STREAM)
    dropout_seed = int(make_generator(seed, stream=DROPOUT_STREAM).integers(2**63)) if dropout else 0
    if resume is not None:
        resume = resume if isinstance(resume, Checkpoint) else Checkpoint.load(resume)
        scale = data.scale if isinstance(data, Dataset) else net.input_scale
        resume.check_fits(net, settings.identity(net, train_rows, validation_rows, scale, dropout_seed), settings)
        resume.check_generator(generator)
        generator.bit_generator.state = resume.generator_state  # nothing was changed before this line
        net.load_parameters(resume.parameters)
    if isinstance(data, Dataset):
        net.adopt(data)

    backend = net.backend
    placed = backend.place(train_rows.images, train_rows.labels, net.input_scale, train_rows.weights)
    if feed is not None:
        placed = placed._replace(on_host=True)  # as its batches are: a plan for these very rows would be of no use
    unseen = Unseen(
        *(
            None if rows is None else backend.place(rows.images, rows.labels, net.input_scale)
            for rows in (test_rows, validation_rows)
        )
    )
    job = TrainingJob(
        net.layers, settings.optimizer, placed, settings.batch_size, loss=net.loss, l2=l2, l2_per_batch=l2_per_batch,
        dropout=dropout, dropout_seed=dropout_seed, clip_norm=clip_norm,
        tile_rows=batch_size if accumulate > 1 else None, learning_rate=learning_rate, precision=precision,
    )  # fmt: skip
    plan = CheckedPlan(backend, job) if detect_anomaly else backend.compile(job)
    run = TrainingRun(net, train_rows, settings, plan, generator, feed=feed, validation=validation_rows)
    if resume is not None:
        run.restore(resume)
    elif optimizer_state is not None:
        plan.load_state(optimizer_state.arrays, optimizer_state.step)
    _loop(run, unseen, callbacks)
    if run.best:
        net.load_parameters(run.best)
    return run.history


class Unseen(NamedTuple):
    """Rows that the network does not learn from, on the device; None where there are none."""

    test: Rows | None
    validation: Rows | None


def _loop(run: TrainingRun, unseen: Unseen, callbacks: Sequence[Callback]) -> None:
    """Take the steps, epoch by epoch and chunk by chunk, and tell the callbacks."""
    settings, watch = run.settings, Watch(run)
    is_heard = settings.early_stopping is not None or any(callback.each_epoch for callback in callbacks)
    at_once = 1 if is_heard else settings.epochs if unseen == (None, None) else settings.evaluate_every
    chunk = settings.batch_size  # rows of the next chunk; grows to about CHUNK_SECONDS
    for callback in callbacks:
        callback.on_train_begin(run)
    while run.epoch <= settings.epochs and not run.stopped:
        order = run.begin_epoch()
        while not run.is_epoch_over and not run.stopped:
            started, before = time.perf_counter(), run.position
            sums = _take(run, order, chunk, at_once)
            elapsed = time.perf_counter() - started
            _note(run, sums, elapsed)
            watch.check(sums)
            chunk = _next_chunk(len(sums) * run.position - before, elapsed, settings.batch_size)
            for callback in callbacks:
                callback.on_chunk_end(run)
        if run.is_epoch_over:
            is_due = run.epoch == settings.epochs or run.epoch % settings.evaluate_every == 0
            _finish_epoch(run, unseen if is_due else Unseen(None, None), callbacks)
    watch.check_state()
    for callback in callbacks:
        callback.on_train_end(run)


def _take(run: TrainingRun, order: npt.NDArray[np.int64] | None, rows: int, at_once: int) -> list[Totals]:
    """Take the steps of a chunk: of the next `rows` in `order`, or, without an order, of the epochs that they make.

    Those are at most up to the next epoch whose number `at_once` divides, and to the last.
    """
    settings = run.settings
    try:
        with np.errstate(all="ignore"):  # what comes out is looked at instead
            if run.feed is not None:
                return [run.feed.take(run.plan, run.totals, rows)]
            if order is not None:
                return [run.plan.run(order[run.position : run.position + rows], run.totals)]
            to_pause = at_once - (run.epoch - 1) % at_once
            return run.plan.run_epochs(min(rows // settings.rows, settings.epochs + 1 - run.epoch, to_pause))
    except NotFinite as error:
        raise diverged(run, error.step, error.found) from error


def _note(run: TrainingRun, sums: Sequence[Totals], elapsed: float) -> None:
    """Keep the sums of a chunk: of several epochs that were taken in one go, all but the last one are over."""
    for totals in sums[:-1]:
        run.history.append(_result(run, totals, elapsed / len(sums)))
        run.epoch += 1
    run.totals = sums[-1]
    run.position = run.totals.rows
    run.seconds += elapsed / len(sums)


def _finish_epoch(run: TrainingRun, unseen: Unseen, callbacks: Sequence[Callback]) -> None:
    """Evaluate the epoch, tell the callbacks of it and of those that were taken with it, and step to the next one."""
    figures: dict[str, float | None] = {}
    for name, rows in unseen._asdict().items():
        if rows is not None:
            totals = _evaluate(run, rows, name)
            accuracy = totals.accuracy if run.net.outputs.has_accuracy else None
            figures |= {f"{name}_loss": totals.loss, f"{name}_accuracy": accuracy}
    run.history.append(_result(run, run.totals, run.seconds, **figures))
    run.heed_early_stopping()
    run.epoch, run.position, run.totals, run.seconds = run.epoch + 1, 0, Totals(), 0.0
    run.mark_epoch_start()
    told, run.told = run.told, len(run.history)
    for result in run.history[told:]:
        for callback in callbacks:
            callback.on_epoch_end(run, result)


def _evaluate(run: TrainingRun, rows: Rows, name: str) -> Totals:
    """Return the sums over rows that the network does not learn from."""
    with np.errstate(all="ignore"):
        totals = run.net.backend.evaluate(run.net.layers, rows, loss=run.net.loss)
    if not is_finite([totals]):
        rate = float(run.plan.job.learning_rates(run.plan.step, 1)[0])
        raise DivergenceError(
            f"the {name} loss of epoch {run.epoch} is {totals.loss}, though the weights are finite: lower the learning "
            f"rate, which was {rate:.3g}, or see whether {name} rows have far larger features than training rows"
        )
    return totals


def _result(run: TrainingRun, train: Totals, seconds: float, **figures: float | None) -> EpochResult:
    """Return the result of the present epoch; `figures` are those of rows that the network does not learn from."""
    unseen = dict.fromkeys(("test_loss", "test_accuracy")) | figures
    return EpochResult(
        epoch=run.epoch,
        train_loss=train.loss_sum / run.weight_of_epoch,
        train_accuracy=train.accuracy if run.net.outputs.has_accuracy else None,
        seconds=seconds,
        **unseen,
    )


def _next_chunk(taken: int, elapsed: float, batch_size: int) -> int:
    """Return the rows of the next chunk: whole batches for about CHUNK_SECONDS, at most 4 times those just taken."""
    rows = taken * min(4.0, CHUNK_SECONDS / max(elapsed, 1e-9))
    return max(1, int(rows) // batch_size) * batch_size
