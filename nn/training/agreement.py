"""Checks that all ranks have the same network, rows and options."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...backends import ConfigError, RunError
from ...backends.communicator import Communicator
from ...backends.machine import version_of, versions
from ..files.tensors import Arrays
from ..network.mlp import MLP
from .checkpoint import Checkpoint
from .identity import Identity


def refuse_differing(
    communicator: Communicator,
    identity: Identity,
    generator: np.random.Generator,
    resume: Checkpoint | None,
    others: Mapping[str, Any],
) -> None:
    """Check before training that all ranks have the same run, backend and versions.

    Args:
        communicator: communicator of the ranks.
        identity: identity of the run; the network's weights must be equal too.
        generator: generator of the orders.
        resume: checkpoint to resume from, or None.
        others: further values that must be equal, by name.

    Raises:
        ConfigError: on every rank, with the rank and value that differ.
    """
    net, options, stopping = identity.net, identity.options, identity.options.early_stopping
    own = {
        **identity.parts,
        **others,
        "epochs": options.epochs,
        "evaluate_every": options.evaluate_every,
        "precision": options.precision,
        "patience": None if stopping is None else stopping.patience,
        "backend": net.backend.name,
        "version of the backend": version_of(net.backend.name),
        "check sum of the weights": check_sum_of(net.parameters()),
        "state of the generator": repr(generator.bit_generator.state),
        "checkpoint of step": None if resume is None else resume.step,
        "check sum of the checkpoint": resume and check_sum_of(resume.parameters | resume.optimizer_state),
        **{f"version of {name}": number for name, number in versions().items()},
    }
    refuse_other(communicator, own)


def refuse_other(communicator: Communicator, own: Mapping[str, Any]) -> None:
    """Check that all ranks have the same values.

    Args:
        communicator: of the ranks.
        own: this rank's values by name.

    Raises:
        ConfigError: on every rank, with the first rank and value that differ.
    """
    expected, *_ = of_ranks = communicator.exchange(dict(own))
    for rank, found in enumerate(of_ranks):
        for name in expected | found:
            of_first, of_rank = expected.get(name), found.get(name)
            if repr(of_first) != repr(of_rank):  # a NaN is not equal to itself
                raise ConfigError(
                    f"rank {rank} has {name} {of_rank!r:.80}, rank 0 has {of_first!r:.80}: all ranks must have the "
                    f"same; {_remedy(name)}"
                )


def _remedy(name: str) -> str:
    """Return advice on a difference."""
    if name.startswith("version"):
        return "install the same versions everywhere"
    if name == "backend":
        return "name the backend, such as numba, instead of auto"
    if name == "check sum of the weights":
        return "make the network with the same seed everywhere"
    if name == "state of the generator":
        return "pass the same seed everywhere"
    if "checkpoint" in name:
        return "resume all ranks from the same file"
    if name.startswith("check sum") or name == "number of rows":
        return "give every rank the same files"
    return "start all ranks with the same arguments"


def check_same_weights(communicator: Communicator, net: MLP, epoch: int) -> None:
    """Check after an epoch that the weights of all ranks are bit-identical.

    Raises:
        RunError: on every rank, if one differs.
    """
    if communicator.size == 1:
        return
    own = np.array(check_sum_of(net.parameters()), dtype=np.int64)  # ()
    of_ranks = communicator.gather(own)  # (ranks,)
    if (differing := np.flatnonzero(of_ranks != of_ranks[0])).size:
        raise RunError(
            f"after epoch {epoch} rank {differing[0]} has other weights than rank 0: its machine rounds in a different "
            "way, or its memory is faulty; resume from the last checkpoint on machines of one kind"
        )


def check_sum_of(arrays: Arrays) -> int:
    """Return a CRC-32 of named arrays, independent of their order."""
    number = 0
    for name in sorted(arrays):
        number = zlib.crc32(name.encode(), number)
        number = zlib.crc32(np.ascontiguousarray(arrays[name]).data.cast("B"), number)
    return number
