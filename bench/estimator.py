"""Benchmark on scikit-learn's MLP examples, against its estimators: `python -m xpnn.bench.estimator`."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import numpy.typing as npt

from ..backends import ConfigError, look_up
from ..nn.cli.output import say
from .compare.data import load_data
from .compare.results_file import circumstances, write
from .compare.workloads import WORKLOADS
from .program import Program, comma_names

Rows = tuple[npt.NDArray[Any], npt.NDArray[Any]]  # (samples, features), (samples,)

# Settings of scikit-learn's examples/neural_networks/plot_mlp_training_curves.py, all from random_state 0.
CURVES: dict[str, dict[str, Any]] = {
    "constant": {"learning_rate": "constant", "momentum": 0},
    "constant momentum": {"learning_rate": "constant", "momentum": 0.9, "nesterovs_momentum": False},
    "constant Nesterov": {"learning_rate": "constant", "momentum": 0.9, "nesterovs_momentum": True},
    "invscaling": {"learning_rate": "invscaling", "momentum": 0},
    "invscaling momentum": {"learning_rate": "invscaling", "momentum": 0.9, "nesterovs_momentum": False},
    "invscaling Nesterov": {"learning_rate": "invscaling", "momentum": 0.9, "nesterovs_momentum": True},
    "adam": {"solver": "adam", "learning_rate_init": 0.01},
}
# plot_mlp_alpha.py
LBFGS = {"solver": "lbfgs", "random_state": 1, "max_iter": 2000, "early_stopping": True, "hidden_layer_sizes": [10, 10]}
ALPHAS = [10.0**exponent for exponent in (-1, 0, 1)]  # five in the example, np.logspace(-1, 1, 5)
# plot_mnist_filters.py
FILTERS = {"solver": "sgd", "learning_rate_init": 0.2, "random_state": 1, "max_iter": 8, "hidden_layer_sizes": (40,)}


# Rows, features, hidden units and epochs of tables that users fit.
SHAPES = [
    (1_000, 20, (100,), 20), (20_000, 50, (100,), 4), (20_000, 50, (256, 128), 3), (200_000, 28, (100,), 2),
    (50_000, 300, (100,), 2),
]  # fmt: skip
LEAST_SECONDS = 0.05  # of a shorter call, so many are timed that it takes this long


class Example(NamedTuple):
    """A call of an estimator.

    Attributes:
        name: name in the results.
        rows: rows and classes that are passed.
        settings: parameters of the estimator.
        method: `fit`, or a method of an estimator that is fitted to the rows.
        num_classes: number of classes, for the other methods.
    """

    name: str
    rows: Rows
    settings: dict[str, Any]
    method: str = "fit"
    num_classes: int = 2


def training_curves(mnist: str | None) -> Iterator[Example]:  # noqa: ARG001
    """Loss curves of several solvers on four small data sets."""
    from sklearn import datasets
    from sklearn.preprocessing import minmax_scale

    sets = {
        "iris": datasets.load_iris(return_X_y=True),
        "digits": datasets.load_digits(return_X_y=True),
        "circles": datasets.make_circles(noise=0.2, factor=0.5, random_state=1),
        "moons": datasets.make_moons(noise=0.3, random_state=0),
    }
    for data, (rows, classes) in sets.items():
        scaled = minmax_scale(rows)
        for kind, settings in CURVES.items():
            solver = {"solver": "sgd", "learning_rate_init": 0.2, **settings}
            epochs = 15 if data == "digits" else 400
            yield Example(f"curves {data} {kind}", (scaled, classes), {**solver, "random_state": 0, "max_iter": epochs})


def alpha(mnist: str | None) -> Iterator[Example]:  # noqa: ARG001
    """Strengths of the penalty with L-BFGS, on three sets of two features."""
    for data, (rows, classes) in two_features(seed=0).items():
        for strength in ALPHAS:
            yield Example(f"alpha {data} {strength:g}", (rows, classes), {**LBFGS, "alpha": strength})


def mnist_filters(mnist: str | None) -> Iterator[Example]:
    """40 hidden units on MNIST for eight epochs."""
    data = load_data(WORKLOADS["W3"], mnist).train
    rows = np.asarray(data.images / 255.0)  # float64, as the example has them
    yield Example("mnist filters", (rows, data.labels), FILTERS)


def classifier_comparison(mnist: str | None) -> Iterator[Example]:  # noqa: ARG001
    """The network among the compared classifiers, on three sets of two features."""
    for data, (rows, classes) in two_features(seed=42).items():
        settings = {"alpha": 1, "max_iter": 1000, "random_state": 42}
        yield Example(f"comparison {data}", (rows, classes), settings)


def tables(mnist: str | None) -> Iterator[Example]:  # noqa: ARG001
    """Fits and predictions of tables, from 1,000 to 200,000 rows, and calls with a few rows."""
    from sklearn import datasets

    digits, classes = datasets.load_digits(return_X_y=True)
    generator = np.random.default_rng(0)
    sets: dict[str, tuple[Rows, tuple[int, ...], int]] = {"1,797 x 64 (100,)": ((digits / 16, classes), (100,), 20)}
    for rows, features, hidden, epochs in SHAPES:
        x = generator.normal(size=(rows, features))
        sets[f"{rows:,} x {features} {hidden}"] = (x, (x[:, 0] * x[:, 1] > 0).astype(int)), hidden, epochs
    for name, (both, hidden, epochs) in sets.items():
        settings = {"hidden_layer_sizes": hidden, "max_iter": epochs, "random_state": 0}
        yield Example(f"fit {name}", both, settings)
        num_classes = int(both[1].max()) + 1
        yield Example(f"predict {name}", both, settings, "predict", num_classes)
        if hidden == (100,) and len(both[0]) < 10_000:
            few = {count: (both[0][:count], both[1][:count]) for count in (1, 100, 1_000)}
            for count, part in few.items():
                yield Example(f"partial_fit {count} of {name}", part, settings, "partial_fit", num_classes)
            yield Example(f"predict_proba 1 of {name}", few[1], settings, "predict_proba", num_classes)


EXAMPLES: dict[str, Callable[[str | None], Iterator[Example]]] = {
    "curves": training_curves,
    "alpha": alpha,
    "comparison": classifier_comparison,
    "mnist": mnist_filters,
    "tables": tables,
}


def two_features(*, seed: int) -> dict[str, Rows]:
    """Return moons, circles and two clusters, with two standardized features, without the examples' test rows."""
    from sklearn import datasets
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import scale

    rows, classes = datasets.make_classification(
        n_features=2, n_redundant=0, n_informative=2, random_state=1, n_clusters_per_class=1
    )
    clouds = rows + 2 * np.random.RandomState(2).uniform(size=rows.shape), classes
    sets = {
        "moons": datasets.make_moons(noise=0.3, random_state=0),
        "circles": datasets.make_circles(noise=0.2, factor=0.5, random_state=1),
        "clouds": clouds,
    }
    divided = {name: train_test_split(*each, test_size=0.4, random_state=seed) for name, each in sets.items()}
    return {name: (scale(parts[0]), parts[2]) for name, parts in divided.items()}


def measure(task: Example, *, turns: int, backend: str) -> dict[str, Any]:
    """Time both estimators, interleaved, after a warm-up turn.

    Returns:
        Seconds of each fit, medians, and the ratio of ours to theirs; epochs or iterations, loss and score of each.
    """
    from sklearn.neural_network import MLPClassifier as Theirs

    from ..nn.estimator import MLPClassifier as Ours

    makers: dict[str, Callable[[], Any]] = {
        "scikit-learn": lambda: Theirs(**task.settings),
        "xpnn": lambda: Ours(**task.settings, backend=backend),
    }
    figures: dict[str, dict[str, Any]] = {name: {"seconds": []} for name in makers}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of trainings that the examples end before they have converged
        for turn in range(turns + 1):
            for name in makers if turn % 2 else reversed(makers):
                estimator, elapsed = _timed(makers[name](), task)
                if turn:
                    figures[name]["seconds"].append(elapsed)
                else:
                    figures[name] |= {
                        "first_seconds": elapsed,
                        "n_iter": estimator.n_iter_,
                        "loss": float(estimator.loss_),
                        "score": float(estimator.score(*task.rows)),
                        "backend": getattr(estimator, "backend_", None),
                    }
    for each in figures.values():
        each["median_seconds"] = statistics.median(each["seconds"])
    ratio = figures["xpnn"]["median_seconds"] / figures["scikit-learn"]["median_seconds"]
    return {"name": task.name, **figures, "ratio": ratio}


def _timed(estimator: Any, task: Example) -> tuple[Any, float]:
    """Return the fitted estimator, and the seconds of a call."""
    arguments = task.rows if task.method.endswith("fit") else task.rows[:1]
    if task.method == "fit":
        call, calls = partial(estimator.fit, *arguments), 1
    else:
        estimator.partial_fit(*task.rows, classes=np.arange(task.num_classes))
        call = partial(getattr(estimator, task.method), *arguments)
        started = time.perf_counter()
        call()
        calls = max(1, round(LEAST_SECONDS / (time.perf_counter() - started)))
    started = time.perf_counter()
    for _ in range(calls):
        call()
    return estimator, (time.perf_counter() - started) / calls


def line(result: dict[str, Any]) -> str:
    """Format the figures of a task on one line."""
    theirs, mine = result["scikit-learn"], result["xpnn"]
    return (
        f"{result['name']:40} {1e3 * theirs['median_seconds']:9.1f} ms {1e3 * mine['median_seconds']:9.1f} ms "
        f"{result['ratio']:6.2f}   {theirs['n_iter']:5} {mine['n_iter']:5}   {theirs['score']:.4f} {mine['score']:.4f} "
        f"  {mine['backend']}"
    )


def summary(results: list[dict[str, Any]]) -> str:
    """Format the ratios of all tasks, and of each example."""
    lines = []
    for example in dict.fromkeys(result["name"].split()[0] for result in results):
        ratios = [result["ratio"] for result in results if result["name"].split()[0] == example]
        lines.append(
            f"{example}: {statistics.median(ratios):.2f} of scikit-learn's time in the median, "
            f"{max(ratios):.2f} at worst"
        )
    return "\n".join(lines)


@click.command(cls=Program)
@click.option("--examples", callback=comma_names, default=",".join(EXAMPLES), show_default=True, metavar="NAMES")
@click.option("--turns", type=click.IntRange(min=1), default=7, show_default=True, help="Timed fits of each.")
@click.option("--backend", default="auto", show_default=True, metavar="NAME", help="Of xpnn's estimators.")
@click.option("--data", metavar="SOURCE", help="Where MNIST is, as for `xpnn train`.")
@click.option("--out", type=click.Path(path_type=Path), help="The results' file, JSON; none by default.")
def main(examples: tuple[str, ...], turns: int, backend: str, data: str | None, out: Path | None) -> None:
    """Time both estimators, interleaved, on scikit-learn's examples and on tables; print medians and ratios."""
    chosen = [look_up("example", name, EXAMPLES) for name in examples]
    if out is not None and out.exists():
        raise ConfigError(f"{out} is there already: choose another --out")
    say(f"{'':40} {'scikit-learn':>12} {'xpnn':>12} {'ratio':>6}   iterations      score")
    results = []
    for task in (task for example in chosen for task in example(data)):
        results.append(measure(task, turns=turns, backend=backend))
        say(line(results[-1]))
    say(summary(results))
    if out is not None:
        write(out, {**circumstances("python -m xpnn.bench.estimator"), "turns": turns, "results": results})


if __name__ == "__main__":
    main()
