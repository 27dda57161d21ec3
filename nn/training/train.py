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

    Args:
        net: the network, changed in place; its input scale and class names become the data's.
        data: training and test rows, or training rows alone, which may have weights; or batches that come from outside,
            for which `batch_size` and `shuffle` mean nothing, and which can be resumed from the start of an epoch.
        seed: of the generator that draws the orders, or the generator.
        callbacks: listeners; of several processes rank 0's are called, and those that want it on `every_rank`.
        resume: where an earlier run of the same training stopped, or the file or run folder that says so; the run
            continues from there, bit for bit.
        optimizer_state: where the optimizer of an earlier training of this network ended, `run.optimizer_state`; this
            one's begins there, on whatever rows, and its schedule anew.
        detect_anomaly: whether to look at the result of every operation, and stop at the first that is not finite;
            slow. Without it, the run is looked at after each chunk, and the step that went wrong is searched for then.
        communicator: the processes that share each batch, `nn.distributed.world()`; each of them calls this with the
            same network, rows and arguments. The result is that of one process, up to rounding.
        options: the fields of `nn.TrainingOptions`, such as `epochs=10` or `optimizer=nn.Adam(1e-3)`.

    Returns:
        One result an epoch, those of the resumed run included.

    Raises:
        ConfigError: an argument has a value that it cannot have, the checkpoint is of another training, or a process
            has other arguments, rows or versions than rank 0.
        DataError: the data do not fit the network.
        ModelFileError: the checkpoint cannot be read.
        DivergenceError: the loss, a weight or the optimizer's state is no longer a finite number; the network then has
            the weights before the step that went wrong, or, of batches from outside, the last that were looked at.
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


def _with_options() -> None:
    """Let `help` and notebooks show the options as keywords of their own."""
    own, options = signature(train), signature(TrainingOptions).parameters.values()
    named = [each for each in own.parameters.values() if each.kind != Parameter.VAR_KEYWORD]
    train.__signature__ = own.replace(parameters=[*named, *options])  # type: ignore[attr-defined]


_with_options()
