"""Reports of the benchmark: a block for each workload, and a table of ratios to the fastest peer."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from .contestants import ALL_PEERS, title_of

Figures = Mapping[str, Mapping[str, Any]]  # contestant -> what `measure` gives of it


def fastest_peer(contestants: Figures) -> str | None:
    """Return the peer with the smallest median among those with matching results in float32."""
    peers = {
        name: figures["median_seconds"]
        for name, figures in contestants.items()
        if name in ALL_PEERS and not ALL_PEERS[name].rounds and "failed" not in figures and not figures["mark"]
    }
    return min(peers, key=peers.__getitem__) if peers else None


def ratio(contestants: Figures, name: str) -> float | None:
    """Return a contestant's median over the fastest peer's; None without a peer or after a failure."""
    fastest = fastest_peer(contestants)
    if fastest is None or "failed" in contestants[name]:
        return None
    return float(contestants[name]["median_seconds"] / contestants[fastest]["median_seconds"])


def block(name: str, entry: Mapping[str, Any], product_rate: float | None = None) -> str:
    """Format a workload's figures: milliseconds, quartiles, ratio, share of peak, test accuracy, and compilation.

    The peak is the rate of a large matrix product, in operations a second; who skips zero pixels can exceed it.
    For turns of several epochs, the accuracy is that after the first turn.
    """
    contestants: Figures = entry["contestants"]
    one = "epoch" if entry["workload"].get("epochs", 1) == 1 else "turn"
    what = "prediction" if entry["workload"]["measure"] == "predict" else one
    width = max(16, *(len(title_of(contestant)) + 1 for contestant in contestants))
    heads = ("median ms", "quartiles", "ratio", "of peak", "test acc.", "transfer s", "compile s")
    lines = [f"{name}: {entry['workload']['summary']}", f"  {what:{width}}" + "".join(f"{head:>15}" for head in heads)]
    notes = []
    rows = entry["test_rows" if entry["workload"]["measure"] == "predict" else "train_rows"]
    operations = rows * entry["workload"].get("operations", 0)
    for contestant, figures in contestants.items():
        if "failed" in figures:
            notes.append(f"  {title_of(contestant)} failed: {figures['failed']}")
            continue
        low, high = (1e3 * quartile for quartile in figures["quartile_seconds"])
        shown, mark = ratio(contestants, contestant), "*" if figures["mark"] else ""
        cells = (
            f"{1e3 * figures['median_seconds']:.1f}",
            f"{low:.1f}-{high:.1f}",
            "-" if shown is None else f"{shown:.2f}",
            "-" if not product_rate else f"{operations / figures['median_seconds'] / product_rate:.0%}",
            f"{figures.get('turn_accuracy', figures['test_accuracy']):.2%}{mark}",
            f"{figures['transfer_seconds']:.2f}",
            f"{figures['compile_seconds']:.2f}",
        )
        lines.append(f"  {title_of(contestant):{width}}" + "".join(f"{cell:>15}" for cell in cells))
        if figures["mark"]:
            notes.append(f"  * {title_of(contestant)}: {figures['mark']}")
    return "\n".join([*lines, *notes])


def summary(content: Mapping[str, Any]) -> str:
    """Format one line per workload: the fastest peer's median, each backend's with its ratio, and who is missing."""
    workloads = content["workloads"]
    ours = [name for name in took_part(content) if name not in ALL_PEERS]
    lines = [f"{'median ms':16}{'fastest peer':>32}" + "".join(f"{title_of(name):>20}" for name in ours)]
    for name, entry in workloads.items():
        contestants = entry["contestants"]
        peer = fastest_peer(contestants)
        best = "-" if peer is None else f"{title_of(peer)} {1e3 * contestants[peer]['median_seconds']:.1f}"
        cells = "".join(f"{cell(contestants, each):>20}" for each in ours)
        lines.append(f"{name:16}{best:>32}{cells}")
    lines += spread_of_ratios(content, ours)
    if content["options"]["kind"] == "gpu":
        took = ", ".join(f"{title_of(name)} {seconds:.1f}" for name, seconds in content["load_seconds"].items())
        lines.append(f"seconds of imports, CUDA context and a first kernel, all at once: {took}")
    lines += [f"{title_of(name)} did not take part: {reason}" for name, reason in content["missing"].items()]
    return "\n".join(lines)


def cell(contestants: Figures, name: str) -> str:
    """Format a contestant's median in milliseconds, a backend's ratio, and a star if its results differ."""
    if name not in contestants or "failed" in contestants[name]:
        return "-"
    shown = f"{1e3 * contestants[name]['median_seconds']:.1f}"
    share = None if name in ALL_PEERS else ratio(contestants, name)
    return shown + ("" if share is None else f" ({share:.2f})") + ("*" if contestants[name]["mark"] else "")


def spread_of_ratios(content: Mapping[str, Any], names: list[str]) -> list[str]:
    """Format each contestant's median ratio, and its largest ratio with the workload."""
    lines = []
    for name in names:
        shares = {
            workload: share
            for workload, entry in content["workloads"].items()
            if name in entry["contestants"] and (share := ratio(entry["contestants"], name)) is not None
        }
        if len(shares) > 1:
            worst = max(shares, key=shares.__getitem__)
            middle = statistics.median(shares.values())
            lines.append(
                f"{title_of(name)}: {middle:.2f} of the fastest peer's time in the median of {len(shares)} workloads, "
                f"{shares[worst]:.2f} at worst ({worst})"
            )
    return lines


def took_part(content: Mapping[str, Any]) -> list[str]:
    """Return the contestants of all workloads, in order."""
    names = [name for entry in content["workloads"].values() for name in entry["contestants"]]
    return list(dict.fromkeys(names))
