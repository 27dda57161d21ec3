"""`xpnn bench`."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from ...backends import ConfigError, MissingDependency
from ...nn.cli.options import UserPath, examples, json_option, option, quiet_option, shell_words
from ...nn.cli.output import answer, note, say
from ..program import comma_names

if TYPE_CHECKING:
    from rich.progress import Progress


@click.command(epilog=examples("xpnn bench --quick", "xpnn bench --workloads W3,predict --contestants numba,torch"))
@option("--quick", "What", "Few workloads, rows and epochs: within a minute.", is_flag=True)
@option(
    "--workloads", "What", "W1, W2, W3, W3a, W4, W5, W6, D1, D2, D3, D4, predict.", str, "NAMES", callback=comma_names
)
@option(
    "--contestants",
    "What",
    "script, sklearn, torch, torch-compile, jax, and backends.",
    str,
    "NAMES",
    callback=comma_names,
)
@option("--gpu", "What", "On a CUDA device: its backend and its peers.", is_flag=True)
@option("--sweep", "What", "Hidden widths and batch sizes, as a picture.", is_flag=True)
@option("--shapes", "What", "This many random workloads instead.", click.IntRange(min=1), "N")
@option("--seed", "What", "Of the random workloads; 0 by default.", click.IntRange(min=0), "N", default=0)
@option("--data", "What", "Where MNIST is, as for `xpnn train`.", str, "SOURCE")
@option("--epochs", "How", "Timed epochs of each; 7 by default, 5 turns with --gpu.", click.IntRange(min=5), "N")
@option("--threads", "How", "Processors of each contestant; all by default.", click.IntRange(min=1), "N")
@option("--resume", "How", "Resume the run in this file.", UserPath(), "FILE")
@option("--out", "Output", "Results; by default bench-<time>.json.", UserPath(), "FILE")
@json_option
@quiet_option
def bench(
    *, threads: int | None, data: str | None, out: Path | None, resume: Path | None, as_json: bool, quiet: bool,
    **asked: Any,
) -> None:  # fmt: skip
    """Benchmark the backends against other libraries.

    The peers are a plain NumPy script, scikit-learn, PyTorch (eager and torch.compile) and JAX, as far as installed:
    pip install "xpnn[cli,bench]". Each contestant runs in its own process with the same processors, initial weights
    and order of rows, and they take turns of an epoch each.

    With --gpu the peers are the script on CuPy, PyTorch (CUDA graphs, and max-autotune) and JAX, in float32 and,
    separately, in TF32; a turn is many epochs, and the device is synchronized before the clock is read.
    """
    from ...backends.machine import usable_cores
    from .report import block, summary
    from .results_file import Results
    from .runs import carry_out, plan_run

    if out is not None and resume is not None:
        raise ConfigError("--resume writes to the file that it resumes; leave out --out")
    run = plan_run(**asked)
    threads = threads or usable_cores()
    if resume is None:
        path = out or Path(f"bench-{datetime.now():%Y%m%d-%H%M%S}.json")
        results = Results.new(path, options=run.options, threads=threads)
    else:
        results = Results.resume(resume, options=run.options, threads=threads)
    talk = not (quiet or as_json)
    if talk and run.kind == "quick":
        say("a quick run, on few rows and epochs: an impression, no figures to keep\n")
    with _bar(disable=quiet or not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=1.0)

        def on_step(workload: str, what: str, share: float) -> None:
            bar.update(task, description=f"{workload:8} {what:14}", completed=share, refresh=True)

        def on_workload(workload: str) -> None:
            if talk:
                bar.stop()  # so that the bar and the figures do not mix
                content = results.content
                say(block(workload, content["workloads"][workload], content["product_rate"]) + "\n")
                bar.start()

        try:
            carry_out(run, results, data, on_step=on_step, on_workload=on_workload)
        except KeyboardInterrupt:
            bar.stop()
            if results.path.exists():
                note(f"stopped; the same command with {shell_words('--resume', results.path)} continues")
            raise
    saved = f"saved in {results.path}"
    if run.kind == "sweep":
        from .picture import save_sweep_picture

        picture = results.path.with_suffix(".png")
        with suppress(MissingDependency):
            save_sweep_picture(results.content, picture)
            saved += f" and {picture}"
    if as_json:
        answer(json.dumps(results.content))
    elif not quiet:
        say(f"{summary(results.content)}\n{saved}")


def _bar(*, disable: bool) -> Progress:
    """Return a progress bar on stderr that is drawn between turns only."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"), BarColumn(bar_width=30), TimeRemainingColumn(compact=True),
        console=Console(stderr=True), transient=True, auto_refresh=False, redirect_stdout=False, disable=disable,
    )  # fmt: skip
