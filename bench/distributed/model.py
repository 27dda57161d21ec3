"""When many machines pay: a model of the time of a step that ranks take together, with numbers that are measured.

A rank's step is its own work on its part of the batch, and then the sum of the gradients:

    t(n) = fixed + per_row * batch_size / n + per_rank * (n - 1) + sum(n, bytes)

The sum costs what MPICH's reduce-scatter and allgather cost (Thakur, Rabenseifner and Gropp 2005, section 4), and in
reproducible mode what an allgather of whole gradients costs; each message has a latency and a share of the bandwidth.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ...backends import ConfigError

RANKS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Work:
    """What one process computes in a step, in seconds.

    Attributes:
        fixed: whatever its rows; the update of the weights above all, which every rank does.
        per_row: for each row of its part of the batch.
        per_rank: for each other rank; in reproducible mode, for adding up what those sent.
    """

    fixed: float
    per_row: float
    per_rank: float = 0.0

    def seconds(self, rows: float, ranks: int = 1) -> float:
        """Return the time that one rank computes on its `rows` of a step."""
        return self.fixed + self.per_row * rows + self.per_rank * (ranks - 1)


@dataclass(frozen=True)
class Link:
    """What joins two machines: seconds that a message takes however short it is, and bytes a second."""

    latency: float
    bandwidth: float

    def sum_seconds(self, size: int, ranks: int) -> float:
        """Return how long `ranks` take to add up a buffer of `size` bytes, on a link of this kind each."""
        if ranks == 1:
            return 0.0
        return 2 * math.log2(ranks) * self.latency + 2 * (ranks - 1) / ranks * size / self.bandwidth

    def gather_seconds(self, size: int, ranks: int) -> float:
        """Return how long it takes until every rank has a buffer of `size` bytes of every other."""
        if ranks == 1:
            return 0.0
        return math.log2(ranks) * self.latency + (ranks - 1) * size / self.bandwidth


class Forecast(NamedTuple):
    """What the model says of one number of ranks."""

    ranks: int
    compute: float  # seconds of a step
    exchange: float  # seconds of a step
    speed_up: float  # over one process alone

    @property
    def seconds(self) -> float:
        """The time of a step."""
        return self.compute + self.exchange


def forecast(
    alone: Work,
    rank: Work,
    link: Link,
    *,
    batch_size: int,
    size: int,
    ranks: Sequence[int] = RANKS,
    reproducible: bool = False,
    sharing: int = 1,
) -> list[Forecast]:
    """Return what a step takes on each number of ranks.

    Args:
        alone: work of one process that trains by itself, whose plan may be faster than that of a rank.
        rank: work of one of several ranks.
        link: between them.
        batch_size: rows of a step, those of all ranks and of all accumulated batches together.
        size: of the gradients, in bytes.
        ranks: how many to look at.
        reproducible: whether whole gradients are exchanged, to be added up in a fixed order.
        sharing: most ranks that share a core, where there are fewer cores than ranks.
    """
    if batch_size < 1 or size < 1 or any(n < 1 for n in ranks):
        raise ConfigError(f"batch_size, size and ranks must be at least 1, got {batch_size}, {size} and {list(ranks)}")
    exchange = link.gather_seconds if reproducible else link.sum_seconds
    one = alone.seconds(batch_size)
    found = []
    for n in ranks:
        compute = one if n == 1 else rank.seconds(batch_size / n, n) * min(sharing, n)
        seconds = exchange(size, n)
        found.append(Forecast(n, compute, seconds, one / (compute + seconds)))
    return found


def best(forecasts: Sequence[Forecast]) -> Forecast:
    """Return the fewest ranks within 5 % of the shortest step; those after it are not worth having."""
    shortest = min(each.seconds for each in forecasts)
    return min((each for each in forecasts if each.seconds <= 1.05 * shortest), key=lambda each: each.ranks)


def fit_work(rows: Sequence[float], ranks: Sequence[int], seconds: Sequence[float]) -> Work:
    """Return the work that measured steps show, by least squares of the relative errors, no term below 0.

    Args:
        rows: that the process had in each measured step.
        ranks: how many it was one of; all alike, or the last term is fitted too.
        seconds: that the steps took.
    """
    columns = [np.ones(len(rows)), np.asarray(rows, np.float64), np.asarray(ranks, np.float64) - 1]
    fixed, per_row, *rest = _fit(columns if len(set(ranks)) > 1 else columns[:2], seconds)
    return Work(fixed, per_row, *rest)


def fit_link(sizes: Sequence[int], seconds: Sequence[float], *, gather: bool = False) -> Link:
    """Return the link that the sums (or gathers) of 2 ranks show, by least squares of the relative errors."""
    messages = 1 if gather else 2
    columns = [np.full(len(sizes), float(messages)), np.asarray(sizes, np.float64)]
    latency, per_byte = _fit(columns, seconds)
    return Link(latency, 1 / per_byte if per_byte > 0 else math.inf)


def _fit(columns: Sequence[np.ndarray], seconds: Sequence[float]) -> list[float]:
    """Return what each column is to be multiplied by; at least 0."""
    from scipy.optimize import nnls

    if len(seconds) < len(columns):
        raise ConfigError(f"{len(columns)} unknowns need as many measured times, got {len(seconds)}")
    times = np.asarray(seconds, np.float64)
    scaled = np.stack(columns, axis=1) / times[:, None]  # (times, unknowns)
    sizes = np.linalg.norm(scaled, axis=0)
    factors, _ = nnls(scaled / sizes, np.ones(len(times)))
    return [float(factor) for factor in factors / sizes]


UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "bit/s": 1.0, "kbit/s": 1e3, "mbit/s": 1e6, "gbit/s": 1e9}


def parse_link(text: str) -> Link:
    """Return the link that words such as "1 Gbit/s, 100 us" describe.

    Raises:
        ConfigError: they do not.
    """
    found = re.fullmatch(r"\s*([\d.]+)\s*([kmg]?bit/s)\s*[,/]?\s*([\d.]+)\s*(us|ms|s)\s*", text, re.IGNORECASE)
    try:
        if found is None:
            raise ValueError
        link = Link(float(found[3]) * UNITS[found[4].lower()], float(found[1]) * UNITS[found[2].lower()] / 8)
    except ValueError as error:
        raise ConfigError(f'a link is a bandwidth and a latency, such as "1 Gbit/s, 100 us", got {text!r}') from error
    if link.bandwidth == 0:
        raise ConfigError(f"a link must have a bandwidth, got {text!r}")
    return link


def table(forecasts: Sequence[Forecast]) -> str:
    """Return forecasts as a table in Markdown."""
    lines = ["| ranks | compute, ms | sum, ms | step, ms | speed-up |", "| ---: | ---: | ---: | ---: | ---: |"]
    for each in forecasts:
        times = " | ".join(f"{1e3 * seconds:.3g}" for seconds in (each.compute, each.exchange, each.seconds))
        lines.append(f"| {each.ranks} | {times} | {each.speed_up:.2f} |")
    return "\n".join(lines)
