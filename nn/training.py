"""The training loop: the only one."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from numbers import Integral

import numpy as np
import numpy.typing as npt

from ..backends import Adam, ConfigError, Optimizer, Rows, RunError, Totals, TrainingJob
from .callbacks import Callback
from .checkpoint import Checkpoint
from .datasets.dataset import Dataset, Split
from .evaluation import check_rows
from .generators import make_generator
from .history import EpochResult, History
from .mlp import MLP
from .schedules import Schedule, learning_rate_at
from .training_run import TrainingRun

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
    resume: Checkpoint | None = None,
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
        resume: where an earlier run of the same training stopped; the run goes on from there, bit for bit.

    Returns:
        One result an epoch, those of the resumed run included.

    Raises:
        ConfigError: an argument has a value that it cannot have.
        DataError: the data do not fit the network.
        RunError: the loss is no longer a number.
    """
    train_rows, test_rows = (data.train, data.test) if isinstance(data, Dataset) else (data, None)
    if isinstance(data, Dataset):
        net.check_fits(data)
    check_rows(net, train_rows)
    if test_rows is not None:
        check_rows(net, test_rows)
    batch_size = len(train_rows) if batch_size is None else batch_size
    _check_arguments(epochs, batch_size, l2, evaluate_every, len(train_rows))
    net.backend.check_precision(precision)  # before the rows are brought to a device
    optimizer = Adam() if optimizer is None else optimizer
    learning_rate = learning_rate_at(
        optimizer.learning_rate,
        schedule,
        total_steps=epochs * -(-len(train_rows) // batch_size),
        warmup_steps=warmup_steps,
    )
    generator = make_generator(seed, stream=SHUFFLE_STREAM)
    if resume is not None:
        resume.check_fits(rows=len(train_rows), batch_size=batch_size, epochs=epochs)
        resume.restore_generator(generator)
        net.load_parameters(resume.parameters)
    if isinstance(data, Dataset):
        net.adopt(data)

    backend = net.backend
    placed = backend.place(train_rows.images, train_rows.labels, net.input_scale)
    placed_test = None if test_rows is None else backend.place(test_rows.images, test_rows.labels, net.input_scale)
    job = TrainingJob(
        net.layers, optimizer, placed, batch_size, l2=l2, learning_rate=learning_rate, precision=precision
    )
    run = TrainingRun(net, backend.compile(job), generator, epochs, len(train_rows))
    if resume is not None:
        run.restore(resume)

    chunk = batch_size  # rows of the next chunk; grows to about CHUNK_SECONDS
    for callback in callbacks:
        callback.on_train_begin(run)
    while run.epoch <= epochs and not run.stopped:
        run.mark_epoch_start()
        order = _draw_order(run.generator, len(train_rows), batch_size, shuffle=shuffle)
        while run.position < len(train_rows) and not run.stopped:
            started, before = time.perf_counter(), run.position
            with np.errstate(all="ignore"):  # the loss is checked instead
                if order is None:
                    wait = _epochs_to_evaluation(run, evaluate_every) if placed_test is not None else epochs
                    sums = run.plan.run_epochs(min(chunk // batch_size, wait, epochs + 1 - run.epoch))
                else:
                    sums = [run.plan.run(order[run.position : run.position + chunk], run.totals)]
            elapsed = time.perf_counter() - started
            _note(run, sums, elapsed)
            chunk = _next_chunk(len(sums) * run.position - before, elapsed, batch_size)
            for callback in callbacks:
                callback.on_chunk_end(run)
        if run.position == len(train_rows):
            is_due = run.epoch == epochs or run.epoch % evaluate_every == 0
            _finish_epoch(run, placed_test if is_due else None, callbacks)
    for callback in callbacks:
        callback.on_train_end(run)
    return run.history


def _note(run: TrainingRun, sums: Sequence[Totals], elapsed: float) -> None:
    """Keep the sums of a chunk: of several epochs that were taken in one go, all but the last one are over."""
    for totals in sums[:-1]:
        _check_loss("training", totals, run.epoch)
        run.history.append(_result(run.epoch, totals, None, elapsed / len(sums)))
        run.epoch += 1
    run.totals = sums[-1]
    _check_loss("training", run.totals, run.epoch)
    run.position = run.totals.rows
    run.seconds += elapsed / len(sums)


def _finish_epoch(run: TrainingRun, test_rows: Rows | None, callbacks: Sequence[Callback]) -> None:
    """Evaluate the epoch, tell the callbacks of it and of those that were taken with it, and step to the next one."""
    test = None
    if test_rows is not None:
        with np.errstate(all="ignore"):
            test = run.net.backend.evaluate(run.net.layers, test_rows)
        _check_loss("test", test, run.epoch)
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


def _epochs_to_evaluation(run: TrainingRun, evaluate_every: int) -> int:
    """Return how many epochs there are up to the next evaluation, that one included."""
    return evaluate_every - (run.epoch - 1) % evaluate_every


def _draw_order(
    generator: np.random.Generator, count: int, batch_size: int, *, shuffle: bool
) -> npt.NDArray[np.int64] | None:
    """Return the epoch's order of rows, (count,), or None for a full batch, whose order is no matter."""
    if batch_size >= count:
        return None
    return generator.permutation(count) if shuffle else np.arange(count)


def _next_chunk(taken: int, elapsed: float, batch_size: int) -> int:
    """Return the rows of the next chunk: whole batches for about CHUNK_SECONDS, at most 4 times those just taken."""
    rows = taken * min(4.0, CHUNK_SECONDS / max(elapsed, 1e-9))
    return max(1, int(rows) // batch_size) * batch_size


def _check_loss(kind: str, totals: Totals, epoch: int) -> None:
    """Stop a training whose weights have run away, before they are saved over good ones."""
    if not math.isfinite(totals.loss_sum):
        raise RunError(
            f"the {kind} loss of epoch {epoch} is {totals.loss}: the steps are too large; lower the learning rate"
        )


def _check_arguments(epochs: int, batch_size: int, l2: float, evaluate_every: int, count: int) -> None:
    """Refuse numbers that no training can have."""
    for name, number in (("epochs", epochs), ("evaluate_every", evaluate_every)):
        if not (_is_whole(number) and number >= 1):
            raise ConfigError(f"{name} must be a whole number >= 1, got {number}")
    if not (_is_whole(batch_size) and 1 <= batch_size <= count):
        raise ConfigError(
            f"batch_size must be a whole number in [1, {count}], the number of training rows, got {batch_size}; "
            "None takes all rows"
        )
    if not (math.isfinite(l2) and l2 >= 0):
        raise ConfigError(f"l2 must be a finite number >= 0, got {l2}")


def _is_whole(number: object) -> bool:
    """Return whether it is an integer, Python's or NumPy's."""
    return isinstance(number, Integral)
