"""The recipe `table` on scikit-learn's tables, beside scikit-learn's network with its defaults."""

from __future__ import annotations

import time
import warnings
from datetime import date
from typing import NamedTuple

import numpy as np
import sklearn
from sklearn import datasets
from sklearn.base import is_regressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ..backends.machine import hardware, versions
from ..nn.datasets import Dataset, from_arrays
from ..nn.network.evaluation import evaluate
from ..nn.runs.recipes import RECIPES

TABLES = {"wine": datasets.load_wine, "breast cancer": datasets.load_breast_cancer, "diabetes": datasets.load_diabetes}
SPLITS = 10  # of each table, by seeds 0, 1, ...


class Score(NamedTuple):
    """Accuracy on the test rows, or R2 of a regression, and the seconds of the training."""

    score: float
    seconds: float


class Comparison(NamedTuple):
    """Scores on one table, one a split."""

    table: str
    is_regression: bool
    ours: list[Score]
    theirs: list[Score]


def compare(name: str, *, splits: int = SPLITS) -> Comparison:
    """Train both on the same rows of a table, in turns."""
    table = TABLES[name](as_frame=True)
    is_regression = name == "diabetes"
    ours, theirs = [], []
    for seed in range(splits):
        data = from_arrays(table.data, table.target, regression=is_regression, seed=seed)
        ours.append(_ours(data, seed))
        theirs.append(_theirs(data, seed))
    return Comparison(name, is_regression, ours, theirs)


def _ours(data: Dataset, seed: int) -> Score:
    recipe = RECIPES["table"].fitted_to(data)
    begin = time.perf_counter()
    net = recipe.network(data, backend="numpy", seed=seed)
    recipe.train(net, data.train, seed=seed)
    seconds = time.perf_counter() - begin
    result = evaluate(net, data.test)
    return Score(float(result.accuracy if result.accuracy is not None else result.r2 or 0.0), seconds)


def _theirs(data: Dataset, seed: int) -> Score:
    network = (MLPClassifier if data.class_names else MLPRegressor)(random_state=seed)
    model = make_pipeline(StandardScaler(), network)
    labels = [part.labels.ravel() if is_regressor(network) else part.labels for part in (data.train, data.test)]
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(data.train.images, labels[0])
    seconds = time.perf_counter() - begin
    return Score(float(model.score(data.test.images, labels[1])), seconds)


def section(comparisons: list[Comparison]) -> str:
    """Format the section of `docs/recipes.md`."""
    lines = [
        "## The recipe `table`",
        "",
        "Written by the same command, and printed by `python -m xpnn.bench.reproduce --recipes table`. On tables that "
        "scikit-learn ships, beside its `make_pipeline(StandardScaler(), MLPClassifier())` or `MLPRegressor()` with "
        f"defaults, on the same rows: means of {len(comparisons[0].ours)} splits with a fifth of the rows for testing. "
        "MLPRegressor leaves labels as they are, ours standardizes them.",
        "",
        "| table | figure | `xpnn train` | scikit-learn | seconds | scikit-learn's |",
        "|---|---|---|---|---|---|",
    ]
    for each in comparisons:
        means = [np.mean(scores, axis=0) for scores in (each.ours, each.theirs)]  # score and seconds of both
        scores = [f"{score:.3f}" if each.is_regression else f"{score:.2%}" for score, _ in means]
        figure = "R2" if each.is_regression else "test accuracy"
        seconds = [f"{each:.2f}" for _, each in means]
        lines.append(f"| {each.table} | {figure} | {' | '.join([*scores, *seconds])} |")
    machine = hardware()
    packages = {**versions(), "scikit-learn": sklearn.__version__}
    software = ", ".join(f"{name} {version}" for name, version in packages.items() if version)
    machine_line = f"{machine['processor']}, {machine['cores']} cores, {machine['system']}; {software}."
    return "\n".join([*lines, "", f"{date.today().isoformat()}, {machine_line}", ""])
