"""`xpnn parity`."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

import rich_click as click

from ...backends import ConfigError, get_backend, registered_backends
from ..runs.parity import DTYPES, AccuracyParity, StepParity, compare_accuracies, compare_steps, subset, to_json
from .options import (
    AT_LEAST_0,
    AT_LEAST_1,
    data_options,
    examples,
    json_option,
    offer,
    option,
    recipe_argument,
    recipe_for,
    take_data_choice,
)
from .output import answer, say


@click.command(epilog=examples("xpnn parity", "xpnn parity mnist-98 --backends numpy,cupy --seeds 0"))
@recipe_argument
@option(
    "--backends", "Comparison", "Backends, the first as reference; numpy,numba by default.", str, "NAMES",
    default="numpy,numba", shell_complete=offer(registered_backends),
)  # fmt: skip
@option("--steps", "Comparison", "Number of steps in lockstep; 100 by default.", AT_LEAST_1, "N", default=100)
@option("--seeds", "Comparison", "Number of complete runs; 5 by default, 0 for none.", AT_LEAST_0, "N", default=5)
@data_options()
@option("--rows", "Data", "Number of training rows to use.", AT_LEAST_1, "N")
@json_option
def parity(
    recipe_name: str | None,
    backends: str,
    steps: int,
    seeds: int,
    rows: int | None,
    as_json: bool,
    **others: Any,
) -> None:
    """Train RECIPE on several backends from the same seeds and compare them; exit 1 if they differ.

    Compares losses and weights after each of --steps steps, in float64 and float32, and test accuracies of --seeds
    complete runs.
    """
    choice = take_data_choice(others)
    recipe = recipe_for(recipe_name, choice)
    contestants = [get_backend(name.strip()) for name in backends.split(",")]
    names = [backend.name for backend in contestants]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"--backends compares different backends, got {twice} twice: name each once")
    dataset = choice.load(recipe, seed=0)
    recipe = recipe.fitted_to(dataset)
    if rows is not None:
        dataset = subset(dataset, rows)
        batch_size = recipe.training.batch_size and min(recipe.training.batch_size, len(dataset.train))
        recipe = recipe.with_options(batch_size=batch_size)
    results: list[StepParity | AccuracyParity] = []
    if not as_json:
        say(f"{recipe.name} against {contestants[0].name}, {len(dataset.train):,} training rows")
    for dtype in DTYPES:
        for result in compare_steps(replace(recipe, dtype=dtype), dataset, contestants, steps=steps):
            results.append(result)
            _show(result, as_json=as_json)
    if seeds:
        for k, accuracies in enumerate(compare_accuracies(recipe, dataset, contestants, seeds=seeds)):
            results.append(accuracies)
            _show(accuracies, as_json=as_json, is_reference=k == 0)
    passed = all(result.passed for result in results)
    if as_json:
        answer(json.dumps({"recipe": recipe.name, "passed": passed, "results": [to_json(r) for r in results]}))
    sys.exit(0 if passed else 1)


def _show(result: StepParity | AccuracyParity, *, as_json: bool, is_reference: bool = False) -> None:
    """Print a result."""
    if as_json:
        return
    verdict = "reference" if is_reference else "ok" if result.passed else "DIFFERS"
    head = f"  {result.backend:<17}{result.dtype:<9}"
    if isinstance(result, StepParity):
        say(
            f"{head}{result.steps} steps: loss {result.loss_difference:.1e}, weights {result.weight_difference:.1e}, "
            f"{100 * max(result.loss_ratio, result.weight_ratio):.0f} % of the tolerance  {verdict}"
        )
    else:
        accuracies = " ".join(f"{100 * accuracy:.2f}" for accuracy in result.accuracies)
        say(f"{head}test accuracy {accuracies}, difference {100 * result.difference:.2f} points  {verdict}")
