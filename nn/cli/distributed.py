"""The ranks of `xpnn train --distributed`: rank 0 decides, records and talks; the others follow.

What all of them call, in this order, rank 0 in `lead` and `xpnn train`, the others in `follow`:

1. `join`: MPI begins, and the options and versions of all are compared.
2. An exchange of rank 0's orders, which has loaded its rows by then. The ranks part here where nothing is to do.
3. A barrier between the first rank of each machine, which loads its rows before it, and the others, which do so after.
4. An exchange of what each computes with, `processes_of`.
5. What `nn.train` calls.
6. An exchange of the signals received, `agreed_signal`.

An error on one rank, at any time, ends all: nobody waits in one of these for a rank that does not come.
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
from .signals import StopOnSignal
from .train_report import Start

Loaded = TypeVar("Loaded")

# Options that may differ from rank to rank: paths on its machine, and what rank 0 alone heeds.
OWN = {"data", "out", "resume", "threads", "live", "tensorboard", "as_json", "quiet", "verbose"}


class Orders(NamedTuple):
    """What rank 0 has decided, for the others.

    Attributes:
        config: of the run.
        checkpoint: what it resumes from, or None.
        is_finished: whether there is nothing to do.
    """

    config: RunConfig
    checkpoint: Checkpoint | None
    is_finished: bool


def join(ctx: click.Context) -> MpiCommunicator | None:
    """Meet the other ranks; return None where this one is alone.

    Raises:
        ConfigError: on every rank: one was given other options, or has another version of a package.
        MissingDependency: there is no MPI.
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
    """Say that each process trains by itself, where a launcher has started several without --distributed."""
    rank, size = launched()
    if size > 1 and rank == 0 and not ctx.params["quiet"]:
        click.echo(
            f"xpnn: {size} processes were started, and each trains a network of its own; "
            "with --distributed they train one together",
            err=True,
        )


def lead(communicator: MpiCommunicator, start: Start) -> str:
    """Tell the other ranks what to do; return how many processes there are, and on how many machines.

    They load their rows now that rank 0 has.
    """
    communicator.exchange(Orders(start.config, start.checkpoint, start.is_finished()))
    if start.is_finished():
        return ""
    communicator.barrier()
    return processes_of(communicator)


def follow(communicator: MpiCommunicator, source: str | None, *, threads: int | None, detect_anomaly: bool) -> None:
    """Train as rank 0 says, and leave files, words and decisions to it.

    Args:
        communicator: of the ranks.
        source: where this rank's rows are, if it was told.
        threads: at most.
        detect_anomaly: see `nn.train`.
    """
    with at_most_threads(threads), StopOnSignal(speaks=False) as signals:
        orders: Orders = communicator.exchange(None)[0]
        if orders.is_finished:
            return
        recipe, seed = orders.config.recipe, orders.config.seed
        choice = orders.config.data if source is None else orders.config.data_from(source)
        data = in_turn(communicator, lambda: choice.load(recipe, seed=seed))
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
    """Load on the first rank of each machine, then on the others, which find there what the first has downloaded.

    Rank 0 is at the barrier when it has loaded; see `lead`.
    """
    loaded = load() if communicator.local_rank == 0 else None
    communicator.barrier()
    return load() if loaded is None else loaded


def processes_of(communicator: MpiCommunicator) -> str:
    """Return how many processes there are on how many machines, each with how many threads; every rank calls it."""
    are_first, threads = zip(*communicator.exchange((communicator.local_rank == 0, threads_of_process())), strict=True)
    machines, least, most = sum(are_first), min(threads), max(threads)
    several = f"{least}" if least == most else f"{least} to {most}"
    return (
        f"{communicator.size} processes on {machines} machine{'s' * (machines > 1)}, "
        f"each with {several} thread{'s' * (most > 1)}"
    )


def agreed_signal(communicator: MpiCommunicator | None, signals: StopOnSignal) -> int:
    """Return the number of the signal that any rank has received, 0 for none; every rank calls it."""
    return signals.received if communicator is None else max(communicator.exchange(signals.received))


def leave(code: int) -> NoReturn:
    """Exit with a code that is no failure of this rank: all ranks end in good order."""
    finalize()
    sys.exit(code)
