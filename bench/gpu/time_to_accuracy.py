"""Time to accuracy of a recipe, cold and warm: `python -m xpnn.bench.gpu.time_to_accuracy`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from ...backends import get_backend, look_up
from ...nn import Dataset, History
from ...nn.cli.output import say
from ...nn.runs.data_choice import DataChoice
from ...nn.runs.recipes import RECIPES, Recipe
from ..compare.results_file import circumstances, write
from ..program import Program


def train_once(recipe: Recipe, data: Dataset, backend: str, *, seed: int, target: float) -> dict[str, Any]:
    """Train a recipe for all its epochs, including the start of the backend.

    Returns:
        `target_epoch`, the first one, from 1, after which the test accuracy is at least the target, and
        `target_seconds` of training up to its end, both None where none is; `training_seconds` of all steps alone;
        `seconds` of everything: start of the backend, placing the data, compiling, steps, and an evaluation after each
        epoch; accuracy on the test rows after the last epoch; epochs.
    """
    started = time.perf_counter()
    net = recipe.network(data, backend=get_backend(backend, job=recipe.outline(data)), seed=seed)
    history = recipe.train(net, data, seed=seed)
    seconds = time.perf_counter() - started
    reached = first_epoch(history, target)
    return {
        "target_epoch": reached,
        "target_seconds": None if reached is None else sum(result.seconds for result in history[:reached]),
        "training_seconds": sum(result.seconds for result in history),
        "seconds": seconds,
        "test_accuracy": history[-1].test_accuracy,
        "epochs": len(history),
    }


def first_epoch(history: History, target: float) -> int | None:
    """Return the first epoch, from 1, with a test accuracy of at least `target`; None if there is none."""
    return next((each.epoch for each in history if (each.test_accuracy or 0.0) >= target), None)


def summary_of(training: dict[str, Any], target: float) -> str:
    """Format the figures of a run on one line."""
    epoch, seconds = training["target_epoch"], training["target_seconds"]
    reached = "not reached" if epoch is None else f"reached in epoch {epoch} after {seconds:.3f} s of training"
    return (
        f"test {target:.2%} {reached}; {training['test_accuracy']:.2%} after all {training['epochs']} epochs, "
        f"{training['training_seconds']:.3f} s of training, {training['seconds']:.3f} s in all"
    )


@click.command(cls=Program)
@click.option("--recipe", "name", default="mnist-98", show_default=True, metavar="NAME")
@click.option("--backend", default="cupy", show_default=True, metavar="NAME")
@click.option("--data", metavar="SOURCE", help="As for `xpnn train`.")
@click.option("--seeds", default="0,1,2,3,4", show_default=True, metavar="NUMBERS", help="Each is trained twice.")
@click.option(
    "--target",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.98,
    show_default=True,
    help="The accuracy on the test rows whose first epoch is looked for.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Write a JSON file too.")
def main(name: str, backend: str, data: str | None, seeds: str, target: float, out: Path | None) -> None:
    """Train a recipe twice from each seed in one process, and report the time to the target accuracy.

    The first run is the cold one.
    """
    recipe = look_up("recipe", name, RECIPES)
    results = []
    for seed in map(int, seeds.split(",")):
        dataset = DataChoice(data).load(recipe, seed=seed)
        first, second = (train_once(recipe, dataset, backend, seed=seed, target=target) for _ in range(2))
        results.append({"seed": seed, "first": first, "second": second})
        say(
            f"{recipe.name} on {backend}, seed {seed}: {summary_of(second, target)}; "
            f"the time before {first['training_seconds']:.3f} s, {first['seconds']:.3f} s in all"
        )
    content = {
        **circumstances("python -m xpnn.bench.gpu.time_to_accuracy"),
        "recipe": recipe.name,
        "backend": backend,
        "target": target,
        "cold": results[0]["first"],  # nothing was loaded or compiled in this process before
        "results": results,
    }
    if out is not None:
        write(out, content)


if __name__ == "__main__":
    main()
