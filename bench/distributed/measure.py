"""Times of steps and sums of ranks that train together; each function measures in the process that calls it."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ... import nn
from ...backends import TrainingJob, get_backend, reduction
from ...backends.activations import Array
from ...backends.communicator import ALONE, Alone, Communicator
from ...backends.generic_plan import GenericPlan

IS_URGENT = False  # whether turns have real-time priority, so that no other program runs on their cores
TURN_SECONDS = 0.15  # aim of one turn of steps
SUM_SECONDS = 0.04  # of one turn of sums
NEVER = 1 << 62  # bytes of a layer from which its sum is begun early: no layer has so many


class Network(NamedTuple):
    """A network whose steps are timed."""

    sizes: list[int]
    batch_size: int

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return sum(a * b + b for a, b in zip(self.sizes, self.sizes[1:], strict=False))


NETWORKS = {
    "quickstart": Network([64, 32, 10], 32),
    "mnist-98": Network([784, 256, 10], 128),
    "1024x2": Network([784, 1024, 1024, 10], 128),
    "1024x3": Network([784, 1024, 1024, 1024, 10], 128),
    "2048x2": Network([784, 2048, 2048, 10], 128),
}


class Silent(Alone):
    """A rank whose others answer at once: what it takes is its own work."""

    def __init__(self, size: int) -> None:
        self.size = size

    def gather(self, array: Array) -> Array:
        """See `Communicator.gather`."""
        return np.stack([array] * self.size)


class Times(NamedTuple):
    """What some turns took, in seconds of one step or sum."""

    median: float
    least: float
    turns: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Times:
        """Sum up."""
        return cls(statistics.median(seconds), min(seconds), len(seconds))


def drawn_rows(network: Network, rows: int) -> nn.Split:
    """Return drawn images, (rows, features), and labels, (rows,), as large as one wants them."""
    generator = np.random.default_rng(0)
    images = generator.integers(256, size=(rows, network.sizes[0]), dtype=np.uint8)
    return nn.Split(images, generator.integers(network.sizes[-1], size=rows))


class Steps:
    """Steps of one network in one process.

    Args:
        network: and its sizes.
        backend: name.
        batch_size: rows of a step of all ranks.
        communicator: with the others, or one that is `Silent`.
        shards: in reproducible mode, into how many a batch is cut.
    """

    def __init__(
        self,
        network: Network,
        backend: str,
        batch_size: int,
        communicator: Communicator = ALONE,
        *,
        shards: int | None = None,
    ) -> None:
        rows, chosen = drawn_rows(network, max(batch_size, 1024)), get_backend(backend)
        net = nn.MLP(network.sizes, backend=chosen, seed=0)
        placed = chosen.place(rows.images, rows.labels, 1 / 255)
        job = TrainingJob(net.layers, nn.Adam(), placed, batch_size, communicator=communicator, shards=shards)
        self.plan = chosen.compile(job)
        self.is_generic = isinstance(self.plan, GenericPlan)
        self._rows, self._batch_size, self._communicator = len(rows), batch_size, communicator
        self._steps = 2
        seconds = [self.take() for _ in range(3)]  # compiles, and warms up
        self._steps = max(2, int(communicator.broadcast(TURN_SECONDS / min(seconds))))

    def take(self) -> float:
        """Return the seconds of a step, over a turn of them."""
        order = np.arange(self._steps * self._batch_size, dtype=np.int64) % self._rows
        self._communicator.barrier()
        started = time.perf_counter()
        self.plan.run(order)
        return (time.perf_counter() - started) / self._steps


@contextmanager
def urgent() -> Iterator[None]:
    """Give all threads of this process real-time priority inside this block, if turns are to have it."""
    if not IS_URGENT:
        yield
        return
    threads = [int(path.name) for path in Path("/proc/self/task").iterdir()]
    before = {thread: (os.sched_getscheduler(thread), os.sched_getparam(thread)) for thread in threads}
    for thread in threads:
        os.sched_setscheduler(thread, os.SCHED_RR, os.sched_param(1))
    try:
        yield
    finally:
        for thread, (policy, parameters) in before.items():
            with suppress(ProcessLookupError):  # it has ended
                os.sched_setscheduler(thread, policy, parameters)


def in_turns(takes: Sequence[Callable[[], float]], turns: int) -> list[Times]:
    """Call each function once a turn, and sum up what it returned."""
    with urgent():
        seconds = [[take() for take in takes] for _ in range(turns)]
    return [Times.of(of_one) for of_one in zip(*seconds, strict=True)]


def work(network: Network, backend: str, rows: Sequence[int], ranks: Sequence[int], turns: int) -> list[dict[str, Any]]:
    """Time a process alone, one rank's work on some rows, and one rank's work in reproducible mode."""
    cases: list[tuple[dict[str, Any], Steps]] = []
    for count in rows:
        cases.append(({"way": "alone", "rows": count, "ranks": 1}, Steps(network, backend, count)))
        of_rank = Steps(network, backend, 2 * count, Silent(2))
        cases.append(({"way": "sum", "rows": count, "ranks": 2}, of_rank))
    for batch_size in (network.batch_size, 8 * network.batch_size):
        for n in ranks:
            shards = max(n, reduction.shards_of(batch_size))
            steps = Steps(network, backend, batch_size, Silent(n), shards=shards)
            cases.append(({"way": "gather", "rows": batch_size // n, "ranks": n, "batch_size": batch_size}, steps))
    times = in_turns([steps.take for _, steps in cases], turns)
    return [{**case, **found._asdict()} for (case, _), found in zip(cases, times, strict=True)]


def sums(communicator: Communicator, sizes: Sequence[int], turns: int) -> list[dict[str, Any]]:
    """Time the sum and the gather of buffers of float32 with so many bytes; short ones several times at once."""
    found = []
    for way, do in (("sum", communicator.sum), ("gather", communicator.gather)):
        for size in sizes:
            array = np.zeros(size // 4, np.float32)

            def take(count: int = 1, do: Callable[[Array], Any] = do, array: Array = array) -> float:
                communicator.barrier()
                started = time.perf_counter()
                for _ in range(count):  # a rank may leave the barrier late, which shows in one alone
                    do(array)
                return (time.perf_counter() - started) / count

            several = communicator.broadcast(max(1, min(50, int(SUM_SECONDS / max(take(), take())))))
            (times,) = in_turns([lambda take=take, several=several: take(several)], turns)  # type: ignore[misc]
            found.append({"way": way, "bytes": size, **times._asdict()})
    return found


def training(
    network: Network,
    backend: str,
    batch_size: int,
    communicator: Communicator | None,
    *,
    reproducible: bool,
    turns: int,
    steps: int,
) -> Times:
    """Time the steps of `nn.train`; a turn is an epoch of so many, and the first does not count."""
    rows = drawn_rows(network, steps * batch_size)
    net = nn.MLP(network.sizes, backend=backend, seed=0)
    with urgent():
        history = nn.train(
            net, rows, epochs=turns + 1, batch_size=batch_size, communicator=communicator, reproducible=reproducible
        )
    return Times.of([result.seconds / steps for result in history[1:]])


def overlaps(
    network: Network, backend: str, batch_size: int, communicator: Communicator, least: Sequence[int], turns: int
) -> list[dict[str, Any]]:
    """Time steps in turns whose sums begin with so many bytes, and such that never begin early.

    Sums begin early here even where no rank has a core to spare, as `communicator.overlaps` asks for.
    """
    before = communicator.overlaps, reduction.LEAST_BYTES

    def take(count: int) -> float:
        reduction.LEAST_BYTES = count
        return steps.take()

    try:
        communicator.overlaps = True
        steps = Steps(network, backend, batch_size, communicator)
        times = in_turns([lambda count=count: take(count) for count in (NEVER, *least)], turns)  # type: ignore[misc]
    finally:
        communicator.overlaps, reduction.LEAST_BYTES = before
    return [
        {"least_bytes": None if count == NEVER else count, **found._asdict()}
        for count, found in zip((NEVER, *least), times, strict=True)
    ]
