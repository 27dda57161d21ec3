"""How long a recipe trains to reach its accuracy, cold and warm: `python -m xpnn.bench.time_to_accuracy`."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import click

from ..backends import get_backend, look_up
from ..backends.machine import hardware, versions
from ..nn import Dataset
from ..nn.recipes import RECIPES, DataChoice, Recipe
from .gpus import gpus


def train_once(recipe: Recipe, data: Dataset, backend: str, *, seed: int) -> dict[str, Any]:
    """Train a recipe from the start of its backend on.

    Returns:
        `training_seconds` of the steps alone; `seconds` of everything: start of the backend, placing the data,
        compiling, steps, and an evaluation after each epoch; accuracy on the test rows; epochs.
    """
    started = time.perf_counter()
    net = recipe.network(data, backend=get_backend(backend, job=recipe.outline(data)), seed=seed)
    history = recipe.train(net, data, seed=seed)
    seconds = time.perf_counter() - started
    return {
        "training_seconds": sum(result.seconds for result in history),
        "seconds": seconds,
        "test_accuracy": history[-1].test_accuracy,
        "epochs": len(history),
    }


@click.command()
@click.option("--recipe", "name", default="mnist-98", show_default=True, metavar="NAME")
@click.option("--backend", default="cupy", show_default=True, metavar="NAME")
@click.option("--data", metavar="SOURCE", help="As for `xpnn train`.")
@click.option("--seeds", default="0,1,2,3,4", show_default=True, metavar="NUMBERS", help="Each is trained twice.")
@click.option("--out", type=click.Path(path_type=Path), help="Write a JSON file too.")
def main(name: str, backend: str, data: str | None, seeds: str, out: Path | None) -> None:
    """Train a recipe twice from each seed, all in one process: the very first is the cold one."""
    recipe = look_up("recipe", name, RECIPES)
    command = f"python -m xpnn.bench.time_to_accuracy {shlex.join(sys.argv[1:])}"
    results = []
    for seed in map(int, seeds.split(",")):
        dataset = DataChoice(data).load(recipe, seed=seed)
        first, second = (train_once(recipe, dataset, backend, seed=seed) for _ in range(2))
        results.append({"seed": seed, "first": first, "second": second, "command": command})
        click.echo(
            f"{recipe.name} on {backend}, seed {seed}: {second['training_seconds']:.3f} s of training, "
            f"{second['seconds']:.3f} s in all, test {second['test_accuracy']:.2%} after {second['epochs']} epochs; "
            f"the time before {first['training_seconds']:.3f} s, {first['seconds']:.3f} s in all"
        )
    content = {
        "recipe": recipe.name,
        "backend": backend,
        "cold": results[0]["first"],  # nothing was loaded or compiled in this process before
        "results": results,
        "hardware": {**hardware(), "gpus": gpus()},
        "versions": versions(),
    }
    if out is not None:
        out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
