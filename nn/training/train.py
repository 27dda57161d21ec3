"""`nn.train`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from inspect import Parameter, signature
from typing import Unpack

import numpy as np

from ...backends import look_up
from ...backends.communicator import Communicator
from ...backends.constraints import options_of
from ..network.mlp import MLP
from .checkpoint import Checkpoint, OptimizerState
from .history import History
from .options import TrainingKeywords, TrainingOptions
from .rows import Data
from .run import Callback
from .trainer import Trainer


def train(
    net: MLP,
    data: Data,
    *,
    seed: int | np.random.Generator = 0,
    callbacks: Sequence[Callback] = (),
    resume: Checkpoint | str | os.PathLike[str] | None = None,
    optimizer_state: OptimizerState | None = None,
    detect_anomaly: bool = False,
    communicator: Communicator | None = None,
    **options: Unpack[TrainingKeywords],
) -> History:
    """Train a network by gradient descent on its loss.

    An interrupt, Ctrl-C in a notebook, is raised as KeyboardInterrupt and leaves the network with the parameters of the
    last finished chunk of steps, of about half a second. The bits of the chunks before are those of an uninterrupted
    training.

    Args:
        net: the network, trained in place; it adopts the input scale and class names of the data.
        data: training and test rows, or training rows alone, optionally with weights; or streamed batches, for which
            `batch_size` and `shuffle` have no effect, and which can be resumed at the start of an epoch.
        seed: seed of the orders, or a generator.
        callbacks: callbacks, called on rank 0, or on all ranks if they set `every_rank`.
        resume: checkpoint of the same run, or its file or run folder; the run resumes from there with the same bits.
        optimizer_state: final `run.optimizer_state` of an earlier run of this network, to start from, on any rows and
            with a new schedule.
        detect_anomaly: whether to check the result of every operation, and stop at the first that is not finite; slow.
            Without it, the run is checked after each chunk, and the bad step is located afterwards.
        communicator: processes of distributed training, `nn.distributed.world()`; all call this with the same network,
            rows and arguments. The result is that of one process, up to rounding.
        options: fields of `nn.TrainingOptions`, such as `epochs=10` or `optimizer=nn.Adam(1e-3)`.

    Returns:
        One result per epoch, including those before the resume.

    Raises:
        ConfigError: an argument has an invalid value, the checkpoint belongs to another run, arguments, rows or
            versions differ between processes, or the network is being trained already, in another thread or around a
            callback.
        DataError: the data do not fit the network.
        ModelFileError: the checkpoint cannot be read.
        DivergenceError: the loss, a weight or the optimizer state is not finite; the network then has the weights
            before the bad step, or, for streams, the last checked ones.
    """
    for name in options:
        look_up("option of nn.train", name, options_of(TrainingOptions))
    trainer = Trainer(
        net, data, TrainingOptions(**options), seed=seed, callbacks=callbacks, optimizer_state=optimizer_state,
        detect_anomaly=detect_anomaly, communicator=communicator,
    )  # fmt: skip
    if resume is not None:
        trainer.resume(resume)
    return trainer.run()


# Shown by `help` and in notebooks: the options as keywords of their own.
_own = [each for each in signature(train).parameters.values() if each.kind != Parameter.VAR_KEYWORD]
_all = [*_own, *signature(TrainingOptions).parameters.values()]
train.__signature__ = signature(train).replace(parameters=_all)  # type: ignore[attr-defined]
