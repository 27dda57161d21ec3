"""The training loop."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...backends import DivergenceError, Rows, Totals
from ...backends.activations import Array
from ...backends.checked_plan import NotFinite
from ...backends.plan import put_parameters
from .agreement import check_same_weights
from .divergence import Watch, diverged, is_finite
from .history import EpochResult
from .run import Callback, TrainingRun

CHUNK_SECONDS = 0.5  # aim of one `plan.run`, so that signals, progress and checkpoints come through


class Unseen(NamedTuple):
    """Test and validation rows: this process's parts, on the device; None for no rows."""

    test: list[Rows] | None
    validation: list[Rows] | None


def take_steps(run: TrainingRun, unseen: Unseen, callbacks: Sequence[Callback]) -> None:
    """Run the steps, epoch by epoch and chunk by chunk, and call the callbacks."""
    options, communicator, watch = run.options, run.communicator, Watch(run)
    is_heard = options.early_stopping is not None or any(callback.each_epoch for callback in callbacks)
    at_once = 1 if is_heard else run.epochs if unseen == (None, None) else options.evaluate_every
    at_once = communicator.exchange(at_once)[0]  # rank 0's: it alone has all callbacks
    chunk = run.source.step_rows  # rows of the next chunk; grows to about CHUNK_SECONDS
    for callback in callbacks:
        callback.on_train_begin(run)
    _agree_to_stop(run)
    while run.epoch <= run.epochs and not run.is_stopping:
        run.begin_epoch()
        while not run.is_epoch_over and not run.is_stopping:
            started, before = time.perf_counter(), run.position
            sums = _take(run, watch.parameters_before(), chunk, at_once)
            elapsed = communicator.exchange(time.perf_counter() - started)[0]  # one clock for all: chunks depend on it
            _note(run, sums, elapsed)
            watch.check(sums, elapsed)
            chunk = _next_chunk(len(sums) * run.position - before, elapsed, run.source.step_rows)
            for callback in callbacks:
                callback.on_chunk_end(run)
            _agree_to_stop(run)
        if run.is_epoch_over:
            is_due = run.epoch == run.epochs or run.epoch % options.evaluate_every == 0
            _finish_epoch(run, unseen if is_due else Unseen(None, None), callbacks)
            _agree_to_stop(run)
    run.last = watch.check_state(is_last=True)
    for callback in callbacks:
        callback.on_train_end(run)


def _agree_to_stop(run: TrainingRun) -> None:
    """Agree with the other processes whether to stop."""
    stopped = np.array(run.stopped, dtype=np.int64)  # ()
    run.communicator.sum(stopped)
    run.is_stopping = bool(stopped)


def _take(run: TrainingRun, before: Sequence[tuple[Array, Array]], rows: int, at_once: int) -> list[Totals]:
    """Run the steps of a chunk: of about `rows` rows, or of epochs up to the next multiple of `at_once`.

    An interrupt leaves the network with the parameters `before`.
    """
    to_pause = at_once - (run.epoch - 1) % at_once
    try:
        with np.errstate(all="ignore"):  # what comes out is looked at instead
            return run.source.take(run.plan, run.totals, rows, min(to_pause, run.epochs + 1 - run.epoch))
    except NotFinite as error:
        raise diverged(run, error.step, error.found) from error
    except (KeyboardInterrupt, SystemExit):
        run.was_cut_off = True
        put_parameters(run.net.layers, before)
        raise


def _note(run: TrainingRun, sums: Sequence[Totals], elapsed: float) -> None:
    """Record the sums of a chunk; of several epochs in one chunk, all but the last are complete."""
    for totals in sums[:-1]:
        run.history.append(_result(run, totals, elapsed / len(sums)))
        run.epoch += 1
    run.totals = sums[-1]
    run.seconds += elapsed / len(sums)


def _finish_epoch(run: TrainingRun, unseen: Unseen, callbacks: Sequence[Callback]) -> None:
    """Evaluate the epoch, call the callbacks for it and others of its chunk, and advance to the next."""
    figures: dict[str, float | None] = {}
    check_same_weights(run.communicator, run.net, run.epoch)
    for name, parts in unseen._asdict().items():
        if parts is not None:
            totals = _evaluate(run, parts, name)
            accuracy = totals.accuracy if run.net.outputs.has_accuracy else None
            figures |= {f"{name}_loss": totals.loss, f"{name}_accuracy": accuracy}
    run.history.append(_result(run, run.totals, run.seconds, **figures))
    run.heed_early_stopping()
    run.epoch, run.totals, run.seconds = run.epoch + 1, Totals(), 0.0
    run.mark_epoch_start()
    told, run.told = run.told, len(run.history)
    for result in run.history[told:]:
        for callback in callbacks:
            callback.on_epoch_end(run, result)


def _evaluate(run: TrainingRun, parts: Sequence[Rows], name: str) -> Totals:
    """Return the sums over test or validation rows, given this process's `parts`."""
    with np.errstate(all="ignore"):
        evaluate, net = run.net.backend.evaluate, run.net
        totals = run.reduction.totals([evaluate(net.layers, rows, loss=net.loss) for rows in parts])
    if not is_finite([totals]):
        rate = float(run.plan.job.learning_rates(run.plan.step, 1)[0])
        raise DivergenceError(
            f"the {name} loss of epoch {run.epoch} is {totals.loss}, though the weights are finite: lower the learning "
            f"rate, which was {rate:.3g}, or see whether {name} rows have far larger features than training rows"
        )
    return totals


def _result(run: TrainingRun, train: Totals, seconds: float, **figures: float | None) -> EpochResult:
    """Return the result of the current epoch; `figures` are test and validation metrics."""
    unseen = dict.fromkeys(("test_loss", "test_accuracy")) | figures
    return EpochResult(
        epoch=run.epoch,
        train_loss=train.loss_sum / run.source.weight,
        train_accuracy=train.accuracy if run.net.outputs.has_accuracy else None,
        seconds=seconds,
        **unseen,
    )


def _next_chunk(taken: int, elapsed: float, batch_size: int) -> int:
    """Return the rows of the next chunk: whole batches for about CHUNK_SECONDS, at most 4 times the last chunk."""
    rows = taken * min(4.0, CHUNK_SECONDS / max(elapsed, 1e-9))
    return max(1, int(rows) // batch_size) * batch_size
