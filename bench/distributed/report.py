"""What was measured of ranks that train together, beside what the model says, as a page in Markdown.

python -m xpnn.bench.distributed.report bench/results/distributed/FILE.jsonl > bench/results/distributed/FILE.md
"""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from ...backends import DataError
from ..program import Program
from .measure import NETWORKS
from .model import Forecast, Link, Work, best, fit_link, fit_work, forecast

Record = dict[str, Any]
LARGE = 8192  # rows of a step, for the table of 64 machines


class Case(NamedTuple):
    """Steps that were measured."""

    network: str
    backend: str
    batch_size: int
    reproducible: bool
    setting: str
    ranks: int


class Measurements:
    """The records of one file; of what was measured several times, the shortest time counts.

    Args:
        records: lines of the file.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records
        self._points: dict[tuple[Any, ...], float] = {}
        self.trained: dict[Case, float] = {}
        for record in records:
            if record["what"] == "train":
                case = Case(*(record[name] for name in Case._fields))
                self.trained[case] = min(record["least"], self.trained.get(case, math.inf))
            for point in record.get("points", []):
                key = self._key(record, point)
                self._points[key] = min(point["least"], self._points.get(key, math.inf))

    @staticmethod
    def _key(record: Record, point: Record) -> tuple[Any, ...]:
        if record["what"] == "sums":
            return ("sums", record["setting"], record["ranks"], point["way"], point["bytes"])
        if record["what"] == "work":
            network = (record["network"], record["backend"])
            return ("work", *network, point["way"], point.get("batch_size"), point["rows"], point["ranks"])
        case = (record["network"], record["backend"], record["batch_size"], record["setting"], record["ranks"])
        return ("overlap", *case, point["least_bytes"])

    def of(self, *begin: Any) -> list[tuple[Any, ...]]:
        """Return what was measured of something: the rest of its name, and the seconds."""
        found = [(*key[len(begin) :], value) for key, value in self._points.items() if key[: len(begin)] == begin]
        return sorted(found, key=lambda each: [(each_of is None, each_of) for each_of in each])

    def work(self, network: str, backend: str, way: str, batch_size: int | None = None) -> Work:
        """Return the fit of "alone", "sum" or "gather"."""
        points = self.of("work", network, backend, way, batch_size)
        if not points:
            raise DataError(f"the file has no work of {network} on {backend}: measure it with `work --out`")
        return fit_work(*zip(*points, strict=True))

    def link(self, setting: str, way: str) -> Link:
        """Return the fit of the sums or gathers of 2 ranks."""
        points = self.of("sums", setting, 2, way)
        if not points:
            raise DataError(f"the file has no sums over {setting}: measure them with `sums --setting --out`")
        sizes, seconds = zip(*points, strict=True)
        return fit_link(sizes, seconds, gather=way == "gather")

    def settings(self) -> list[str]:
        """Return the links, the first measured first."""
        return list(dict.fromkeys(record["setting"] for record in self.records if record["what"] == "sums"))

    def forecast(self, case: Case, ranks: Sequence[int], *, cores: int | None = None) -> list[Forecast]:
        """Return what the model says of steps; on a machine of so many cores, or on machines of their own."""
        way = "gather" if case.reproducible else "sum"
        own = case.batch_size if case.reproducible else None
        alone = self.work(case.network, case.backend, "alone")
        rank = self.work(case.network, case.backend, way, own)
        if case.reproducible:
            alone = rank
        sharing = 1 if cores is None else math.ceil(max(ranks) / cores)
        return forecast(
            alone, rank, self.link(case.setting, way), batch_size=case.batch_size, ranks=ranks,
            size=4 * NETWORKS[case.network].parameters, reproducible=case.reproducible, sharing=sharing,
        )  # fmt: skip


def read(path: Path) -> Measurements:
    """Read a file of lines."""
    try:
        return Measurements([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}): name a file that `--out` wrote") from error


def rows(heads: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """Return a table, with numbers to three digits."""
    told = [[f"{each:.3g}" if isinstance(each, float) else str(each) for each in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in [list(heads), ["---"] * len(heads), *told])


def plural(count: int, noun: str) -> str:
    """Return a number of things."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def page(measured: Measurements, name: str) -> str:
    """Return the whole page."""
    last = measured.records[-1]
    hardware, versions = last["hardware"], last["versions"]
    cores = max(record["hardware"]["cores"] for record in measured.records)  # some were bound to one of them
    told = ", ".join(f"{package} {number}" for package, number in versions.items() if number)
    parts = [
        "# Ranks that train together: measured, and forecast",
        f"Written by `python -m xpnn.bench.distributed.report bench/results/distributed/{name}` on what was measured "
        f"until {last['date'][:10]} on {hardware['processor']}, {plural(cores, 'core')}, {hardware['system']}; "
        f"{told}. Times are in milliseconds, and the shortest of the turns, as other programs were there; or medians. "
        "Each rank has one core; 4 ranks share 2, for which the model counts a rank's work twice.",
    ]
    sections: list[tuple[str, Callable[[Measurements], str]]] = [
        ("What one process computes", _work),
        ("Sums", _sums),
        ("Steps of `nn.train`, and the model", _trained),
        ("Up to 64 machines, by the model", _far),
        ("Sums that begin while earlier layers go backward", _overlap),
        ("One rank under MPI, and no MPI", _overhead),
    ]
    parts += [f"## {head}\n\n{text}" for head, write in sections if (text := write(measured))]
    return "\n\n".join(parts) + "\n"


def _work(measured: Measurements) -> str:
    lines = []
    for network, backend in dict.fromkeys(
        (record["network"], record["backend"]) for record in measured.records if record["what"] == "work"
    ):
        for way in ("alone", "sum"):
            fit = measured.work(network, backend, way)
            off = max(
                abs(fit.seconds(each[0]) / each[2] - 1) for each in measured.of("work", network, backend, way, None)
            )
            lines.append(
                (
                    network,
                    backend,
                    "alone" if way == "alone" else "a rank",
                    1e3 * fit.fixed,
                    1e6 * fit.per_row,
                    100 * off,
                )
            )
    return rows(("network", "backend", "process", "fixed, ms", "a row, us", "worst error of the fit, %"), lines)


def _sums(measured: Measurements) -> str:
    lines = []
    for setting in measured.settings():
        for way in ("sum", "gather"):
            link = measured.link(setting, way)
            points = {(n, size): seconds for n, found, size, seconds in measured.of("sums", setting) if found == way}
            sizes = sorted({size for _, size in points})
            shown = [size for size in (4096, 1 << 20, 4 << 20) if size in sizes]
            told = [" / ".join(f"{1e3 * points[n, size]:.3g}" for n in (2, 4) if (n, size) in points) for size in shown]
            seconds_of = link.sum_seconds if way == "sum" else link.gather_seconds
            errors = [
                max(
                    (abs(seconds_of(size, n) / points[n, size] - 1) for size in sizes if (n, size) in points),
                    default=math.nan,
                )
                for n in (2, 4)
            ]
            worst = " / ".join(f"{100 * error:.0f}" for error in errors)
            lines.append((setting, way, 1e6 * link.latency, 8e-9 * link.bandwidth, *told, worst))
    heads = ("link", "way", "fitted latency, us", "fitted Gbit/s", "4 KiB", "1 MiB", "4 MiB", "worst error, %")
    return (
        "Of 2 / 4 ranks; the fit is to the sums of 2. Links are those of bench/distributed/namespaces.sh, whose packets "
        "a program on the same cores hands on: the fastest link is as fast as that.\n\n" + rows(heads, lines)
    )


def _trained(measured: Measurements) -> str:
    lines, errors = [], defaultdict(list)
    for case, seconds in measured.trained.items():
        (found,) = measured.forecast(case, [case.ranks], cores=2)
        one = measured.trained.get(case._replace(ranks=1, setting="shared memory"))
        error = found.seconds / seconds - 1
        errors[case.ranks].append(abs(error))
        name = f"{case.network}, {case.backend}" + (", reproducible" if case.reproducible else "")
        speed_up = f"{one / seconds:.2f}" if one else "-"
        lines.append(
            (
                name,
                case.batch_size,
                case.setting,
                case.ranks,
                1e3 * seconds,
                1e3 * found.seconds,
                f"{100 * error:+.0f}",
                speed_up,
            )
        )
    if not lines:
        return ""
    told = "; ".join(
        f"{plural(n, 'rank')}: median {100 * statistics.median(each):.0f}, worst {100 * max(each):.0f}"
        for n, each in sorted(errors.items())
    )
    heads = ("network", "batch", "link", "ranks", "measured", "model", "error, %", "speed-up, measured")
    return f"Errors of the model in percent: {told}.\n\n{rows(heads, lines)}"


def _far(measured: Measurements) -> str:
    lines = []
    networks = dict.fromkeys((r["network"], r["backend"]) for r in measured.records if r["what"] == "work")
    for network, backend in networks:
        for batch_size in (NETWORKS[network].batch_size, 8 * NETWORKS[network].batch_size, LARGE):
            for setting in measured.settings()[1:]:
                found = measured.forecast(
                    Case(network, backend, batch_size, False, setting, 64), (1, 2, 4, 8, 16, 32, 64)
                )
                chosen = best(found)
                by = {each.ranks: f"{each.speed_up:.2f}" for each in found}
                lines.append(
                    (
                        f"{network}, {backend}",
                        batch_size,
                        setting,
                        *(by[n] for n in (2, 4, 16, 64)),
                        chosen.ranks,
                        f"{chosen.speed_up:.2f}",
                    )
                )
    heads = ("network", "batch", "link", "2", "4", "16", "64 machines", "most that pay", "their speed-up")
    return "Speed-up over one process, a machine of one core for each rank.\n\n" + rows(heads, lines)


def _overlap(measured: Measurements) -> str:
    lines = []
    for record in measured.records:
        if record["what"] == "overlap":
            never, *early = record["points"]
            told = [f"{100 * (each['median'] / never['median'] - 1):+.0f}" for each in early]
            head = (f"{record['network']}, {record['backend']}", record["batch_size"], record["setting"])
            lines.append((*head, 1e3 * never["median"], *told))
    heads = ("network", "batch", "link", "no early sums", "from 256 KiB, %", "from 1 MiB, %", "from 4 MiB, %")
    if not lines:
        return ""
    return (
        "Of 2 ranks of one core each, which early sums share with the backward pass; median step, and by how much it "
        "is longer.\n\n" + rows(heads, lines)
    )


def _overhead(measured: Measurements) -> str:
    lines = [
        (
            f"{record['network']}, {record['backend']}", record["turns"], 1e3 * record["median_without"],
            1e3 * record["median_under"], f"{100 * record['overhead']:+.1f}",
            f"{100 * record['overhead_of_least']:+.1f}",
            " to ".join(f"{100 * each:+.1f}" for each in record["quartiles_of_turns"]),
        )
        for record in measured.records
        if record["what"] == "overhead"
    ]  # fmt: skip
    heads = ("network", "turns", "without", "under MPI", "medians, %", "shortest, %", "quartiles of the turns, %")
    return rows(heads, lines) if lines else ""


@click.command(cls=Program)
@click.argument("path", type=click.Path(path_type=Path))
def main(path: Path) -> None:
    """Compare measurements with the model."""
    click.echo(page(read(path), path.name), nl=False)


if __name__ == "__main__":
    main()
