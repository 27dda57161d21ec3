"""Reproduction of every recipe as a table of results: `python -m xpnn.bench.reproduce`."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import click

from ..backends import get_backend, look_up
from ..backends.machine import hardware, versions
from ..nn.cli.output import answer, note
from ..nn.runs.data_choice import DataChoice
from ..nn.runs.recipes import RECIPES, Recipe
from .program import Program, comma_names
from .tables import TABLES, compare, section


class Claim(NamedTuple):
    """Results that the authors of a recipe claim, in words and as least accuracies, reached by nine of ten seeds."""

    text: str
    test: float = 0.0
    train: float = 0.0
    seeds: int = 1


CLAIMS = {
    "quickstart": Claim("-"),
    "gd-10": Claim("prints accuracy as it trains; 84 % test expected", 0.84),
    "gd-10-long": Claim("about 93 % train, about 90 % test", 0.90, train=0.925),
    "deep-32": Claim("93.20 % test", 0.932),
    "wide-256": Claim("about 87 % test", 0.87),
    "mnist-98": Claim("98 % test for 9 of 10 seeds", 0.98, seeds=10),
}


def reproduce(recipe: Recipe, choice: DataChoice, backend: str) -> dict[str, Any]:
    """Train a recipe from seeds 0, 1, ... and return its figures; `choice` is the source of MNIST."""
    runs = []
    for seed in range(CLAIMS[recipe.name].seeds):
        data = (choice if recipe.dataset == "mnist" else DataChoice()).load(recipe, seed=seed)
        chosen = get_backend(backend, job=recipe.outline(data))
        net = recipe.network(data, backend=chosen, seed=seed)
        history = recipe.train(net, data, seed=seed)
        last = history[-1]
        runs.append(
            {
                "seed": seed,
                "backend": chosen.name,
                "train_accuracy": last.train_accuracy,
                "test_accuracy": last.test_accuracy,
                "seconds": sum(result.seconds for result in history),
            }
        )
        note(f"{recipe.name} seed {seed}: test {last.test_accuracy:.2%}, {runs[-1]['seconds']:.1f} s")
    return {"recipe": recipe.name, "runs": runs}


def reached(result: dict[str, Any]) -> bool:
    """Return whether a recipe reaches its authors' accuracy: in its single run, or in nine of ten."""
    claim = CLAIMS[result["recipe"]]
    passed = sum(run["train_accuracy"] >= claim.train and run["test_accuracy"] >= claim.test for run in result["runs"])
    return bool(passed >= 0.9 * len(result["runs"]))


def table(results: list[dict[str, Any]]) -> str:
    """Format the page with the results of all recipes."""
    lines = [
        "# What the recipes reach",
        "",
        "Written by `nox -s reproduce -- --data FOLDER`, with the four MNIST files in FOLDER "
        "(without `--data` they are downloaded).",
        "",
        "| recipe | network and training | its authors show | train | test | training time | backend |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        runs, recipe, claim = result["runs"], RECIPES[result["recipe"]], CLAIMS[result["recipe"]]
        tests = sorted(run["test_accuracy"] for run in runs)
        if len(runs) == 1:
            test = f"{tests[0]:.2%}"
        else:
            passed = sum(accuracy >= claim.test for accuracy in tests)
            test = f"{tests[0]:.2%} to {tests[-1]:.2%}; {passed} of {len(runs)} seeds at {claim.test:.0%} or more"
        train, seconds = (fmean(run[name] for run in runs) for name in ("train_accuracy", "seconds"))
        lines.append(
            f"| `{recipe.name}` | {recipe.summary} | {claim.text} | {train:.2%} | {test} | {seconds:.1f} s "
            f"| {runs[0]['backend']} |"
        )
    machine, packages = hardware(), versions()
    software = ", ".join(f"{name} {version}" for name, version in packages.items() if version)
    return "\n".join(
        [
            *lines,
            "",
            "Train accuracy is that of the last epoch's training pass, test accuracy that of the rows held out, after "
            "it. Times are the training alone, evaluation outside.",
            "",
            f"{date.today().isoformat()}, {machine['processor']}, {machine['cores']} cores, {machine['system']}; "
            f"{software}.",
            "",
        ]
    )


@click.command(cls=Program)
@click.option("--data", default=None, metavar="SOURCE", help="As for `xpnn train`.")
@click.option("--backend", default="auto", show_default=True, metavar="NAME")
@click.option("--recipes", callback=comma_names, default=",".join(RECIPES), show_default=True, metavar="NAMES")
@click.option("--out", type=click.Path(path_type=Path), help="Write the page there; it is printed otherwise.")
def main(data: str | None, backend: str, recipes: tuple[str, ...], out: Path | None) -> None:
    """Run the recipes and write their results; exit code 1 if one falls short of its authors' accuracy."""
    chosen = [look_up("recipe", name, RECIPES) for name in recipes]
    results = [reproduce(recipe, DataChoice(data), backend) for recipe in chosen if recipe.dataset]
    page = table(results)
    if any(not recipe.dataset for recipe in chosen):  # `table`
        page += "\n" + section([compare(name) for name in TABLES])
    if out is None:
        answer(page)
    else:
        out.write_text(page, encoding="utf-8")
    if short := [result["recipe"] for result in results if not reached(result)]:
        raise click.ClickException(f"short of what its authors show: {', '.join(short)}")


if __name__ == "__main__":
    main()
