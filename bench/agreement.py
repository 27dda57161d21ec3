"""How closely many processes agree with one: `python -m xpnn.bench.agreement [--out FILE]`.

It trains the same networks without MPI and under `mpiexec` with 1, 2 and 4 processes, and writes a table of how far
their parameters are from those of the first. 1e-12 in float64 and 1e-4 in float32 are what is asked for, and the same
bits where `reproducible=True`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import numpy.typing as npt

from .. import nn
from ..backends import ConfigError, MissingDependency, RunError
from ..backends.communicator import ALONE, Communicator
from ..backends.machine import hardware, version_of, versions
from ..nn.files.atomic import write_atomically
from ..nn.inputs.generators import make_generator
from ..nn.runs.data_choice import DataChoice
from ..nn.runs.recipes import RECIPES
from ..nn.training.train import SHUFFLE_STREAM
from .compare.results_file import commit
from .program import Program

STEPS = 100
SIZES = (0, 1, 2, 4)  # processes under mpiexec; 0 for one that was started without it
ASKED_FOR = {"float64": 1e-12, "float32": 1e-4}
SECONDS = 900.0  # a launch that takes longer has failed
KEPT_STEPS = 25  # from one look at the parameters to the next

JUMP = 1e-5  # a float32 difference that the rounding of a few sums does not explain

# What the page says where there is such a difference. That it is a ReLU was not looked at.
OF_JUMPS = (
    "Rounding alone adds little from step to step. A jump between two of them may be a ReLU whose input is zero up to "
    "rounding: it lets one row through in one run and not in the other, and what that row adds to the gradient is no "
    "rounding. Sums in a fixed order leave no room for it."
)

Parameters = dict[str, npt.NDArray[Any]]


class Case(NamedTuple):
    """One training.

    Attributes:
        recipe: name of the recipe whose network, optimizer and batches it has.
        backend: name of the backend.
        dtype: of the network.
        reproducible: whether the sum has a fixed order.
    """

    recipe: str
    backend: str
    dtype: str
    reproducible: bool

    @property
    def key(self) -> str:
        """What its arrays are named by."""
        return "/".join([self.recipe, self.backend, self.dtype, "reproducible" if self.reproducible else "plain"])


def cases(recipes: Sequence[str], backends: Sequence[str]) -> Iterator[Case]:
    """Return the trainings, in the order of the table."""
    for recipe in recipes:
        for backend in backends:
            for dtype in ASKED_FOR:
                for reproducible in (False, True):
                    yield Case(recipe, backend, dtype, reproducible)


class End(nn.Callback):
    """Keeps where the optimizer stands at the end."""

    every_rank = True
    state: nn.OptimizerState | None = None

    def on_train_end(self, run: nn.TrainingRun) -> None:
        """See `Callback.on_train_end`."""
        self.state = run.optimizer_state


@cache
def load(recipe: str, data: str | None) -> nn.Dataset:
    """Return the data set of a recipe; MNIST is in the folder `data`."""
    found = RECIPES[recipe]
    return DataChoice(None if found.dataset == "digits" else data).load(found, seed=0)


def train(case: Case, data: str | None, communicator: Communicator) -> Parameters:
    """Take the recipe's first `STEPS` steps, and return the parameters after each `KEPT_STEPS` of them.

    Its rows come in the order in which `xpnn train` would draw them, with the shorter batch at the end of an epoch, and
    its learning rate is that of the whole recipe.
    """
    recipe, dataset = RECIPES[case.recipe], load(case.recipe, data)
    rows, batch_size = dataset.train, recipe.batch_size or len(dataset.train)
    kept: Parameters = {}
    generator, order = make_generator(0, stream=SHUFFLE_STREAM), np.empty(0, dtype=np.int64)  # (rows,)
    net = nn.MLP(recipe.sizes, backend=case.backend, dtype=case.dtype, seed=0)
    net.adopt(dataset)
    of_epoch, end = -(-len(rows) // batch_size), End()  # steps
    all_steps = recipe.epochs * of_epoch
    for first, last in pairwise(sorted({*range(0, STEPS + 1, KEPT_STEPS), *range(0, STEPS, of_epoch)})):
        if first % of_epoch == 0:
            order = generator.permutation(len(rows))
        taken = first % of_epoch  # steps of the epoch
        part = order[taken * batch_size : (taken + last - first) * batch_size]  # (rows,)
        begin, length = first / all_steps, (last - first) / all_steps  # of the recipe's progress
        nn.train(
            net, nn.Split(rows.images[part], rows.labels[part]), optimizer=recipe.optimizer, epochs=1,
            schedule=partial(_part_of, nn.SCHEDULES[recipe.schedule], begin, length),
            batch_size=batch_size, shuffle=False, callbacks=[end], optimizer_state=end.state,
            communicator=communicator, reproducible=case.reproducible,
        )  # fmt: skip
        if last % KEPT_STEPS == 0:
            kept |= {f"{last}/{name}": array.copy() for name, array in net.parameters().items()}
    return kept


def _part_of(schedule: Callable[[float], float], begin: float, length: float, progress: float) -> float:
    """Return what a part of a schedule has at a progress of its own."""
    return schedule(begin + progress * length)


def train_all(which: Sequence[Case], data: str | None, out: Path, *, under_mpi: bool) -> None:
    """Train all cases in this process and those that were started with it; the first one writes what came out."""
    communicator = nn.distributed.world() if under_mpi else ALONE
    found: Parameters = {}
    for case in which:
        found |= {f"{case.key}/{name}": array for name, array in train(case, data, communicator).items()}
    if communicator.rank == 0:
        np.savez(out, allow_pickle=False, **found)


def launch(size: int, arguments: Sequence[str], out: Path) -> Parameters:
    """Train all cases on so many processes; 0 for one without `mpiexec`.

    Raises:
        MissingDependency: there is no `mpiexec`.
        RunError: they failed.
    """
    command = [sys.executable, "-m", "xpnn.bench.agreement", *arguments, "--ranks-write", str(out)]
    if size:
        launcher = shutil.which("mpiexec") or shutil.which("mpiexec", path=str(Path(sys.executable).parent))
        if launcher is None:
            raise MissingDependency('many processes need mpiexec: pip install "xpnn[mpi]" mpich')
        command = [launcher, "-n", str(size), *command, "--under-mpi"]
    try:
        subprocess.run(command, check=True, timeout=SECONDS, stdin=subprocess.DEVNULL)
    except subprocess.SubprocessError as error:
        raise RunError(f"{size or 'one'} processes did not get through: {error}") from error
    with np.load(out) as file:
        return {name: file[name] for name in file.files}


def distance(found: Parameters, expected: Parameters, case: Case, step: int) -> float:
    """Return the largest difference of any parameter after a step."""
    start = f"{case.key}/{step}/"
    names = [name for name in expected if name.startswith(start)]
    return max(float(np.abs(found[name] - expected[name]).max()) for name in names)


def is_same(found: Parameters, expected: Parameters, case: Case) -> bool:
    """Return whether all parameters have the same bits at the end."""
    start = f"{case.key}/{STEPS}/"
    return all(found[name].tobytes() == array.tobytes() for name, array in expected.items() if name.startswith(start))


def table(which: Sequence[Case], of_sizes: dict[int, Parameters]) -> list[str]:
    """Return the table in Markdown: the largest difference from one process without MPI, on each number of them."""
    alone = of_sizes[0]
    sizes = [size for size in of_sizes if size]
    lines = [
        "| network | backend | type | sums | " + " | ".join(f"n = {size}" for size in sizes) + " |",
        "|---|---|---|---|" + "---|" * len(sizes),
    ]
    for case in which:
        row = [case.recipe, case.backend, case.dtype, "fixed order" if case.reproducible else "any order"]
        for size in sizes:
            if is_same(of_sizes[size], alone, case):
                row.append("same bits")
                continue
            far = distance(of_sizes[size], alone, case, STEPS)
            missed = case.reproducible or far > ASKED_FOR[case.dtype]
            row.append(f"{far:.1e}" + (" **missed**" if missed else ""))
        lines.append("| " + " | ".join(row) + " |")
    return lines


def growth(which: Sequence[Case], of_sizes: dict[int, Parameters]) -> list[str]:
    """Return a table of how the largest difference on most processes grows with the steps."""
    steps = range(KEPT_STEPS, STEPS + 1, KEPT_STEPS)
    most = max(of_sizes)
    lines = [
        f"| n = {most}, any order | " + " | ".join(f"step {step}" for step in steps) + " |",
        "|---" * (len(steps) + 1) + "|",
    ]
    for case in which:
        if not case.reproducible:
            far = [f"{distance(of_sizes[most], of_sizes[0], case, step):.1e}" for step in steps]
            lines.append("| " + " | ".join([f"{case.recipe}, {case.backend}, {case.dtype}", *far]) + " |")
    return lines


def has_jump(which: Sequence[Case], of_sizes: dict[int, Parameters]) -> bool:
    """Return whether a float32 training in any order ended farther off than rounding explains."""
    return any(
        distance(of_sizes[size], of_sizes[0], case, STEPS) > JUMP
        for case in which
        if case.dtype == "float32" and not case.reproducible
        for size in of_sizes
    )


def page(which: Sequence[Case], of_sizes: dict[int, Parameters], command: str) -> str:
    """Return the page: what was done, on what, and what came out."""
    machine = hardware()
    numbers = {**versions(), "mpi4py": version_of("mpi4py"), "mpich": version_of("mpich")}
    software = ", ".join(f"{name} {number}" for name, number in numbers.items() if number)
    return "\n".join(
        [
            "# Many processes against one",
            "",
            f"`{command}`",
            "",
            f"The largest difference of any parameter from one process without MPI, after the recipes' first {STEPS} "
            "steps (Adam). Asked for are 1e-12 in float64, 1e-4 in float32, and the same bits where sums have a fixed "
            "order (`reproducible=True`).",
            "",
            *table(which, of_sizes),
            "",
            "How the difference grows:",
            "",
            *growth(which, of_sizes),
            "",
            *([OF_JUMPS, ""] if has_jump(which, of_sizes) else []),
            f"{machine['processor']}, {machine['cores']} cores, {machine['system']}; {software}; commit {commit()}.",
            "",
        ]
    )


@click.command(cls=Program)
@click.option("--backends", default="numpy,numba", show_default=True, metavar="NAMES", help="With commas.")
@click.option(
    "--data", envvar="XPNN_DATA", metavar="FOLDER", help="Where MNIST is; without it, the digits alone are trained on."
)
@click.option("--out", type=click.Path(path_type=Path), help="The page, Markdown; on stdout by default.")
@click.option("--ranks-write", type=click.Path(path_type=Path), hidden=True)
@click.option("--under-mpi", is_flag=True, hidden=True)
def main(backends: str, data: str | None, out: Path | None, ranks_write: Path | None, under_mpi: bool) -> None:
    """Compare trainings on 1, 2 and 4 processes with that of one."""
    names = [name.strip() for name in backends.split(",")]
    if not all(names):
        raise ConfigError(f"backends must be names with commas between, got {backends!r}")
    which = list(cases(["quickstart", *(["mnist-98"] if data else [])], names))
    if ranks_write is not None:
        train_all(which, data, ranks_write, under_mpi=under_mpi)
        return
    arguments = ["--backends", ",".join(names), *(["--data", data] if data else [])]
    with tempfile.TemporaryDirectory() as folder:
        of_sizes = {size: launch(size, arguments, Path(folder) / f"{size}.npz") for size in SIZES}
    asked = f"--backends {','.join(names)}" + (f" --data {os.path.basename(data)}" if data else "")  # noqa: PTH119
    text = page(which, of_sizes, f"python -m xpnn.bench.agreement {asked}")
    if out is None:
        click.echo(text)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, text.encode())


if __name__ == "__main__":
    main()
