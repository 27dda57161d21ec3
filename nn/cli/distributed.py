"""Ranks of `xpnn train --distributed`: rank 0 decides, records and reports; the others follow.

Collective operations in order, called by rank 0 in `lead` and `xpnn train`, by the others in `follow`:

1. `join`: MPI is initialized, and options and versions are compared.
2. An exchange of rank 0's orders, after it has loaded its rows. All ranks exit here if there is nothing to do.
3. A barrier: the first rank of each machine loads its rows before it, the others after it.
4. An exchange of machines and threads, `processes_of`.
5. The collective operations of `nn.train`.
6. An exchange of received signals, `agreed_signal`.

An error on one rank, at any time, ends all, so that no rank waits forever.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import NamedTuple, NoReturn, TypeVar

import click

from ...backends import get_backend
from ...backends.machine import versions
from ...backends.threads import at_most_threads
from ..distributed.mpi_communicator import MpiCommunicator
from ..distributed.world import finalize, launched, threads_of_process, world
from ..runs.config import RunConfig
from ..training.agreement import refuse_other
from ..training.checkpoint import Checkpoint
from .output import note
from .signals import StopOnSignal
from .train_report import Start

Loaded = TypeVar("Loaded")

# Options that may differ from rank to rank: paths on its machine, and what rank 0 alone heeds.
OWN = {"data", "out", "resume", "threads", "live", "tensorboard", "as_json", "quiet", "verbose"}


class Orders(NamedTuple):
    """Instructions from rank 0 to the others.

    Attributes:
        config: configuration of the run.
        checkpoint: checkpoint to resume from, or None.
        is_finished: whether there is nothing to do.
    """

    config: RunConfig
    checkpoint: Checkpoint | None
    is_finished: bool


def join(ctx: click.Context) -> MpiCommunicator | None:
    """Initialize MPI and compare the ranks; return None for a single process.

    Raises:
        ConfigError: on every rank, if options or package versions differ.
        MissingDependency: MPI is not installed.
    """
    communicator = world()
    if communicator.size == 1:
        return None
    options = {param.opts[0]: ctx.params[param.name] for param in ctx.command.params if param.name not in OWN | {None}}
    options["--resume"] = ctx.params["resume"] is not None
    refuse_other(communicator, {f"version of {name}": number for name, number in versions().items()} | options)
    if communicator.rank > 0:
        logging.getLogger("xpnn").setLevel(logging.ERROR)
    return communicator


def say_if_several(ctx: click.Context) -> None:
    """Warn that each process trains independently if a launcher started several without --distributed."""
    rank, size = launched()
    if size > 1 and rank == 0 and not ctx.params["quiet"]:
        note(
            f"xpnn: {size} processes were started, and each trains its own network; "
            "with --distributed they train one together"
        )


def lead(communicator: MpiCommunicator, start: Start) -> str:
    """Send orders to the other ranks; return the numbers of processes and machines.

    They load their rows after rank 0.
    """
    communicator.exchange(Orders(start.config, start.checkpoint, start.is_finished()))
    if start.is_finished():
        return ""
    communicator.barrier()
    return processes_of(communicator)


def follow(communicator: MpiCommunicator, source: str | None, *, threads: int | None, detect_anomaly: bool) -> None:
    """Train by the orders of rank 0, without writing files or messages.

    Args:
        communicator: communicator of the ranks.
        source: path of this rank's rows, if given.
        threads: maximum number of threads.
        detect_anomaly: see `nn.train`.
    """
    with at_most_threads(threads), StopOnSignal(speaks=False) as signals:
        orders: Orders = communicator.exchange(None)[0]
        if orders.is_finished:
            return
        recipe, seed = orders.config.recipe, orders.config.seed
        choice = orders.config.data if source is None else orders.config.data_from(source)
        data = in_turn(communicator, lambda: choice.load(recipe, seed=seed, regression=recipe.is_regression))
        backend = get_backend(orders.config.backend)
        processes_of(communicator)
        net = recipe.network(data, backend=backend, seed=seed)
        recipe.train(
            net, data, seed=seed, callbacks=[signals], resume=orders.checkpoint, detect_anomaly=detect_anomaly,
            communicator=communicator,
        )  # fmt: skip
        if received := agreed_signal(communicator, signals):
            leave(128 + received)


def in_turn(communicator: MpiCommunicator, load: Callable[[], Loaded]) -> Loaded:
    """Load on the first rank of each machine, then on the others, which find its downloads.

    Rank 0 enters the barrier after loading; see `lead`.
    """
    loaded = load() if communicator.local_rank == 0 else None
    communicator.barrier()
    return load() if loaded is None else loaded


def processes_of(communicator: MpiCommunicator) -> str:
    """Describe the numbers of processes, machines and threads; a collective operation."""
    are_first, threads = zip(*communicator.exchange((communicator.local_rank == 0, threads_of_process())), strict=True)
    machines, least, most = sum(are_first), min(threads), max(threads)
    several = f"{least}" if least == most else f"{least} to {most}"
    return (
        f"{communicator.size} processes on {machines} machine{'s' * (machines > 1)}, "
        f"each with {several} thread{'s' * (most > 1)}"
    )


def agreed_signal(communicator: MpiCommunicator | None, signals: StopOnSignal) -> int:
    """Return the number of the signal received by any rank, 0 for none; a collective operation."""
    return signals.received if communicator is None else max(communicator.exchange(signals.received))


def leave(code: int) -> NoReturn:
    """Exit with a code after finalizing MPI on all ranks."""
    finalize()
    sys.exit(code)
