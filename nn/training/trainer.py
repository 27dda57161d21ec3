"""Trainer: checks arguments, compares ranks, places rows on the device, and runs the loop."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import numpy as np

from ...backends import ConfigError, Rows, TrainingJob
from ...backends.checked_plan import CheckedPlan
from ...backends.communicator import ALONE, Communicator
from ...backends.reduction import Reduction, reduction_of, shards_of
from ..datasets.dataset import Split
from ..inputs.arguments import are_instances, make_generator
from ..network.mlp import MLP
from .agreement import check_sum_of, refuse_differing
from .checkpoint import Checkpoint, OptimizerState
from .claim import Claim
from .history import History
from .identity import Identity, check_sum
from .loop import Unseen, take_steps
from .options import TrainingOptions
from .rows import Data, training_rows
from .run import Callback, TrainingRun
from .schedules import learning_rate_at

SHUFFLE_STREAM = 1  # keeps the order of rows independent of weights that were drawn from the same seed
DROPOUT_STREAM = 2


class Trainer:
    """A run that is ready to start; nothing is changed before `run`. Arguments and errors as in `nn.train`."""

    def __init__(
        self,
        net: MLP,
        data: Data,
        options: TrainingOptions,
        *,
        seed: int | np.random.Generator = 0,
        callbacks: Sequence[Callback] = (),
        optimizer_state: OptimizerState | None = None,
        detect_anomaly: bool = False,
        communicator: Communicator | None = None,
    ) -> None:
        communicator = ALONE if communicator is None else communicator
        if not isinstance(communicator, Communicator):
            raise ConfigError(f"communicator must be nn.distributed.world(), or None, got {communicator!r:.80}")
        if not are_instances(callbacks, Callback):
            raise ConfigError(f"callbacks must be a list of nn.Callback, got {callbacks!r:.80}: list instances")
        self._generator = make_generator(seed, stream=SHUFFLE_STREAM)
        dropout_seed = int(make_generator(seed, stream=DROPOUT_STREAM).integers(2**63)) if options.dropout else 0
        source, self._test, validation = training_rows(net, data, options, seed, communicator)
        if options.label_smoothing and net.loss != "softmax_cross_entropy":
            raise ConfigError(f"label_smoothing needs rows of one class each, got loss={net.loss!r}: leave it out")
        net.backend.check_precision(options.precision)
        if detect_anomaly and options.precision != "full":
            raise ConfigError(
                f"detect_anomaly computes in full precision, got precision={options.precision!r}: leave one of them out"
            )
        first_step = 1 if optimizer_state is None else optimizer_state.step + 1
        self._identity = Identity(net, options, source, validation, dropout_seed, first_step)
        self._learning_rate = learning_rate_at(
            options.optimizer.learning_rate,
            options.schedule,
            total_steps=options.epochs * (source.steps_per_epoch or 1),
            warmup_steps=options.warmup_steps,
            first_step=first_step,
        )
        self._callbacks, self._communicator = callbacks, communicator
        self._optimizer_state, self._detect_anomaly = optimizer_state, detect_anomaly
        self._checkpoint: Checkpoint | None = None

    def resume(self, checkpoint: Checkpoint | str | os.PathLike[str]) -> None:
        """Make `run` resume from a checkpoint.

        Raises:
            ConfigError: the checkpoint belongs to another run.
            ModelFileError: it cannot be read.
        """
        if self._optimizer_state is not None:
            raise ConfigError("a resumed training has its own optimizer_state: leave one of them out")
        checkpoint = checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint.load(checkpoint)
        checkpoint.check_fits(self._identity)
        checkpoint.check_generator(self._generator)
        self._checkpoint = checkpoint

    def run(self) -> History:
        """Train, and return one result per epoch, including those before the resume.

        Raises:
            ConfigError: the network is being trained already, by another thread or around a callback.
        """
        claim = Claim(self._identity.net)
        try:
            try:
                claim.take()
                return self._run()
            finally:
                claim.give_back()
        finally:  # if the first was interrupted
            claim.give_back()

    def _run(self) -> History:
        """See `run`; no other training changes the network meanwhile."""
        identity, checkpoint, state = self._identity, self._checkpoint, self._optimizer_state
        net, source, options = identity.net, identity.source, identity.options
        if self._communicator.size > 1:
            others = {
                "check sum of the test rows": None if self._test is None else check_sum(self._test),
                "check sum of the optimizer's state": state and check_sum_of(state.arrays),
                "detect_anomaly": self._detect_anomaly,
            }
            refuse_differing(self._communicator, identity, self._generator, checkpoint, others)
        communicator = net.backend.communicator(self._communicator)  # all ranks have the same backend by now
        if checkpoint is not None:  # nothing was changed before this line
            self._generator.bit_generator.state = checkpoint.generator_state
            net.load_parameters(checkpoint.parameters)
        net.inputs = source.rows.inputs
        job = TrainingJob(
            net.layers, source.place(net), options, loss=net.loss, dropout_seed=identity.dropout_seed,
            learning_rate=self._learning_rate, communicator=communicator,
            shards=shards_of(source.step_rows) if options.reproducible else None,
        )  # fmt: skip
        backend, reduction = net.backend, reduction_of(net.backend, job)
        # The test loss is a mean over rows, as in `evaluate`.
        test = None if self._test is None else replace(self._test, weights=None)
        unseen = Unseen(*(_placed_parts(net, reduction, rows) for rows in (test, identity.validation)))
        with backend.fixed_order() if options.reproducible else nullcontext():
            plan = CheckedPlan(backend, job) if self._detect_anomaly else backend.compile(job)
            run = TrainingRun(net, source, options, plan, self._generator, identity, communicator, reduction)
            if checkpoint is not None:
                run.restore(checkpoint)
            elif state is not None:
                plan.load_state(state.arrays, state.step)
                run.first_state = state
            is_heard = communicator.rank == 0
            callbacks = [callback for callback in self._callbacks if is_heard or callback.every_rank]
            try:
                take_steps(run, unseen, callbacks)
            except KeyboardInterrupt as error:
                error.add_note(
                    f"The training was interrupted in epoch {run.epoch} of {run.epochs}: the network has the "
                    "parameters of the last finished chunk of steps."
                )
                raise
        if run.best:
            net.load_parameters(run.best)
        return run.history


def _placed_parts(net: MLP, reduction: Reduction, rows: Split | None) -> list[Rows] | None:
    """Copy this process's parts of some rows to the device."""
    if rows is None:
        return None
    parts = reduction.parts(slice(0, len(rows)))
    return [net.place(rows.take(part)) for part in parts]
