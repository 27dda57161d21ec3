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
from ...nn.cli.options import UserPath, examples, json_option, quiet_option, shell_words

if TYPE_CHECKING:
    from rich.progress import Progress

    from .runs import Run


def _names(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...] | None:  # noqa: ARG001
    """Read names with commas between them."""
    return None if value is None else tuple(name.strip() for name in value.split(",") if name.strip())


@click.command(epilog=examples("xpnn bench --quick", "xpnn bench --workloads W3,predict --contestants numba,torch"))
@click.option("--quick", panel="What", is_flag=True, help="Few workloads, rows and epochs: within a minute.")
@click.option(
    "--workloads", panel="What", callback=_names, metavar="NAMES", help="W1, W2, W3, W3a, W4, W5, W6, D3, predict."
)
@click.option(
    "--contestants", panel="What", callback=_names, metavar="NAMES",
    help="script, sklearn, torch, torch-compile, jax, and backends.",
)  # fmt: skip
@click.option("--gpu", panel="What", is_flag=True, help="On a CUDA device: its backend and its peers.")
@click.option("--sweep", panel="What", is_flag=True, help="Hidden widths and batch sizes, as a picture.")
@click.option(
    "--shapes", panel="What", type=click.IntRange(min=1), metavar="N", help="This many random workloads instead."
)
@click.option(
    "--seed", panel="What", type=click.IntRange(min=0), default=0, metavar="N",
    help="Of the random workloads; 0 by default.",
)  # fmt: skip
@click.option("--data", panel="What", metavar="SOURCE", help="Where MNIST is, as for `xpnn train`.")
@click.option(
    "--epochs", panel="How", type=click.IntRange(min=5), metavar="N",
    help="Timed epochs of each; 7 by default, 5 turns with --gpu.",
)  # fmt: skip
@click.option(
    "--threads", panel="How", type=click.IntRange(min=1), metavar="N",
    help="Processors of each contestant; all by default.",
)  # fmt: skip
@click.option("--resume", panel="How", type=UserPath(), metavar="FILE", help="Go on with the run in this file.")
@click.option("--out", panel="Output", type=UserPath(), metavar="FILE", help="Results; by default bench-<time>.json.")
@json_option
@quiet_option
def bench(
    *,
    workloads: tuple[str, ...] | None,
    contestants: tuple[str, ...] | None,
    epochs: int | None,
    threads: int | None,
    data: str | None,
    out: Path | None,
    resume: Path | None,
    quick: bool,
    gpu: bool,
    sweep: bool,
    shapes: int | None,
    seed: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Time training on the backends and on their peers.

    The peers are a plain NumPy script, scikit-learn, PyTorch (eager and torch.compile) and JAX; those that are not
    installed are left out: pip install "xpnn[cli,bench]". Each contestant has a process of its own with the same
    processors, the same starting weights and the same order of rows, and they take turns, an epoch each.

    With --gpu the peers are the script over CuPy, PyTorch (its step in CUDA graphs, and max-autotune) and JAX, in
    float32 and, apart, in TF32; a turn is many epochs, and the device is waited for before each reading of the clock.
    """
    from ...backends.machine import usable_cores
    from .data import DataSource
    from .results_file import Results
    from .runs import carry_out, plan_run

    if quick + gpu + sweep + bool(shapes) > 1 or (workloads and (sweep or shapes)):
        raise ConfigError(
            "--quick, --gpu, --sweep and --shapes exclude each other, and the last two exclude --workloads"
        )
    if out is not None and resume is not None:
        raise ConfigError("--resume writes to the file that it goes on with; leave out --out")
    run = plan_run(
        workloads=workloads,
        contestants=contestants,
        epochs=epochs,
        quick=quick,
        gpu=gpu,
        sweep=sweep,
        shapes=shapes,
        seed=seed,
    )
    threads = threads or usable_cores()
    if resume is None:
        path = out or Path(f"bench-{datetime.now():%Y%m%d-%H%M%S}.json")
        results = Results.new(path, options=run.options, threads=threads)
    else:
        results = Results.resume(resume, options=run.options, threads=threads)
    with _Screen(run, results.content, talk=not (quiet or as_json), bar=not quiet) as screen:
        try:
            carry_out(run, results, DataSource(data), on_step=screen.step, on_workload=screen.done)
        except KeyboardInterrupt:
            screen.close()
            if results.path.exists():
                click.echo(f"stopped; the same command with {shell_words('--resume', results.path)} goes on", err=True)
            raise
    if sweep:
        from .picture import save_sweep_picture

        with suppress(MissingDependency):
            save_sweep_picture(results.content, results.path.with_suffix(".png"))
    if as_json:
        click.echo(json.dumps(results.content))
    elif not quiet:
        screen.conclude(results.path)


class _Screen:
    """The bar on stderr, where that is a terminal, and the figures on stdout."""

    def __init__(self, run: Run, content: dict[str, Any], *, talk: bool, bar: bool) -> None:
        self._run, self._content, self._talk = run, content, talk
        self._bar = _make_bar() if bar and sys.stderr.isatty() else None

    def __enter__(self) -> _Screen:
        if self._talk and self._run.kind == "quick":
            click.echo("a quick run, on few rows and epochs: an impression, no figures to keep\n")
        if self._bar is not None:
            self._bar.add_task("", total=1.0)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def step(self, workload: str, what: str, share: float) -> None:
        """Say what is done next."""
        if self._bar is not None:
            task = self._bar.task_ids[0]
            self._bar.update(task, description=f"{workload:8} {what:14}", completed=share, refresh=True)

    def done(self, workload: str) -> None:
        """Print a workload's figures."""
        if self._talk:
            from .report import block

            self.close()  # so that the bar and the figures do not mix
            click.echo(block(workload, self._content["workloads"][workload]) + "\n")
            if self._bar is not None:
                self._bar.start()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()

    def conclude(self, path: Path) -> None:
        """Print the table of ratios, and where everything is."""
        from .report import summary

        click.echo(summary(self._content))
        picture = path.with_suffix(".png")
        drawn = f" and {picture}" if self._run.kind == "sweep" and picture.exists() else ""
        click.echo(f"saved in {path}{drawn}")


def _make_bar() -> Progress:
    """Return a bar that is drawn between the turns, never beside one."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(bar_width=30), TimeRemainingColumn(compact=True)
    return Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False, redirect_stdout=False)
