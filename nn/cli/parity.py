"""`xpnn parity`."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

import click

from ...backends import get_backend, look_up
from ..parity import TOLERANCES, AccuracyParity, StepParity, compare_accuracies, compare_steps, subset, to_json
from ..recipes import RECIPES, DataChoice
from .options import data_options, json_option, recipe_argument


@click.command(epilog="Example: xpnn parity mnist-98 --backends numpy,numba --steps 100 --seeds 5")
@recipe_argument
@click.option(
    "--backends", default="numpy,numba", show_default=True, metavar="NAMES", help="The first is the reference."
)
@data_options
@click.option("--steps", type=click.IntRange(min=1), default=100, show_default=True, help="Steps in lockstep.")
@click.option("--seeds", type=click.IntRange(min=0), default=5, show_default=True, help="Whole trainings; 0 for none.")
@click.option("--rows", type=click.IntRange(min=1), help="Use this many training rows only.")
@json_option
def parity(
    recipe: str | None,
    backends: str,
    data: str | None,
    label_column: str,
    test_fraction: float,
    stratify: bool,
    steps: int,
    seeds: int,
    rows: int | None,
    as_json: bool,
) -> None:
    """Train RECIPE on several backends from the same seeds and compare them; exit 1 if they differ.

    Losses and weights are compared after each of --steps steps, in float64 and float32, and the test accuracies of
    --seeds whole trainings.
    """
    plan = look_up("recipe", recipe or "quickstart", RECIPES)
    contestants = [get_backend(name.strip()) for name in backends.split(",")]
    dataset = DataChoice(data, label_column, test_fraction, stratify).load(plan, seed=0)
    if rows is not None:
        dataset = subset(dataset, rows)
        plan = dataclasses.replace(plan, batch_size=plan.batch_size and min(plan.batch_size, len(dataset.train)))
    results: list[StepParity | AccuracyParity] = []
    if not as_json:
        click.echo(f"{plan.name} against {contestants[0].name}, {len(dataset.train):,} training rows")
    for dtype in TOLERANCES:
        for result in compare_steps(dataclasses.replace(plan, dtype=dtype), dataset, contestants, steps=steps):
            results.append(result)
            _show(result, as_json=as_json)
    if seeds:
        for accuracies in compare_accuracies(plan, dataset, contestants, seeds=seeds):
            results.append(accuracies)
            _show(accuracies, as_json=as_json)
    passed = all(result.passed for result in results)
    if as_json:
        click.echo(json.dumps({"recipe": plan.name, "passed": passed, "results": [to_json(r) for r in results]}))
    sys.exit(0 if passed else 1)


def _show(result: Any, *, as_json: bool) -> None:
    """Print a result's line."""
    if as_json:
        return
    verdict = "ok" if result.passed else "DIFFERS"
    head = f"  {result.backend:<17}{result.dtype:<9}"
    if isinstance(result, StepParity):
        click.echo(
            f"{head}{result.steps} steps: loss {result.loss_difference:.1e}, weights {result.weight_difference:.1e} "
            f"(at most {result.tolerance:.0e})  {verdict}"
        )
    else:
        accuracies = " ".join(f"{100 * accuracy:.2f}" for accuracy in result.accuracies)
        click.echo(f"{head}test accuracy {accuracies}, difference {100 * result.difference:.2f} points  {verdict}")
