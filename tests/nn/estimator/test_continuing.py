"""Fits that continue from the last one: warm starts, `partial_fit`, and parameters that change in between."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6")

from sklearn import neural_network as theirs
from sklearn.datasets import load_digits
from xpnn.backends import get_backend
from xpnn.nn import estimator as ours

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ROWS, CLASSES = load_digits(return_X_y=True)
ROWS, CLASSES = ROWS[:200] / 16, CLASSES[:200]
FIGURES = ("n_iter_", "t_", "best_loss_", "best_validation_score_", "validation_scores_")

SERIES = {
    "early stopping": ({"early_stopping": True, "max_iter": 1}, [{}] * 12),
    "early stopping for some epochs": ({"early_stopping": True, "max_iter": 3}, [{}] * 6),
    "early stopping and lbfgs between": (
        {"early_stopping": True, "max_iter": 3}, [{}, {"solver": "lbfgs"}, {"solver": "adam"}]
    ),
    "adaptive": (
        {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.5, "n_iter_no_change": 1, "tol": 0.1},
        [{"max_iter": 9}] * 4,
    ),
    "invscaling": ({"solver": "sgd", "learning_rate": "invscaling", "max_iter": 3}, [{}] * 4),
    "stopped before": ({"tol": 10.0, "n_iter_no_change": 1, "max_iter": 9}, [{}] * 3),
    "other parameters": (
        {"max_iter": 3},
        [{}, {"batch_size": 30}, {"alpha": 1.0}, {"learning_rate_init": 0.01}, {"solver": "sgd", "activation": "tanh"}],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("settings", "changes"), SERIES.values(), ids=SERIES)
def test_warm_starts_go_on_as_in_scikit_learn(settings, changes):
    settings = {"hidden_layer_sizes": (16,), "warm_start": True, "random_state": 0, **settings}
    expected, mine = (module.MLPClassifier(**settings) for module in (theirs, ours))
    for change in changes:
        for estimator in (expected, mine):
            estimator.set_params(**change).fit(ROWS, CLASSES)
        mine = pickle.loads(pickle.dumps(mine))
        for array, reference in zip(mine.coefs_, expected.coefs_, strict=True):
            np.testing.assert_allclose(array, reference, rtol=0, atol=1e-10)
    for name in FIGURES:
        figure, reference = getattr(mine, name, None), getattr(expected, name, None)
        assert figure is None if reference is None else figure == pytest.approx(reference, rel=1e-2), name


CHANGES = [
    {"activation": "tanh"}, {"solver": "sgd"}, {"solver": "sgd", "momentum": 0.0}, {"solver": "rmsprop"},
    {"solver": "adamw"}, {"alpha": 0.0}, {"batch_size": 7}, {"learning_rate": "adaptive"}, {"learning_rate_init": 0.1},
    {"momentum": 0.1}, {"momentum": 0.0}, {"beta_1": 0.1}, {"epsilon": 1.0}, {"backend": "numba"}, {"dropout": 0.5},
    {"dtype": "float32"}, {"n_threads": 1}, {"class_weight": {0: 2.0, **dict.fromkeys(range(1, 10), 1.0)}},
]  # fmt: skip


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("change", CHANGES, ids=map(str, CHANGES))
def test_a_parameter_may_change_between_partial_fits(solver, change):
    mine = ours.MLPClassifier((8,), solver=solver, random_state=0, backend="numpy")
    before = mine.partial_fit(ROWS, CLASSES, classes=range(10)).get_params()
    for changed in (change, {name: before[name] for name in change}):
        coefs = mine.coefs_[0]
        mine.set_params(**changed).partial_fit(ROWS, CLASSES)
        assert not np.array_equal(mine.coefs_[0], coefs)
    assert mine.coefs_[0].dtype == change.get("dtype", "float64")
    assert mine.t_ == 600


def test_a_solver_of_other_slots_begins_with_its_own():
    one, other = (ours.MLPClassifier((8,), random_state=0, shuffle=False) for _ in range(2))
    one.partial_fit(ROWS, CLASSES, classes=range(10)).set_params(solver="sgd").partial_fit(ROWS, CLASSES)
    other.partial_fit(ROWS, CLASSES, classes=range(10))
    fresh = ours.MLPClassifier((8,), solver="sgd", warm_start=True, shuffle=False, max_iter=1)
    fresh.coefs_, fresh.intercepts_ = other.coefs_, other.intercepts_
    np.testing.assert_array_equal(one.coefs_[0], fresh.fit(ROWS, CLASSES).coefs_[0])


def test_another_schedule_begins_with_the_initial_rate():
    mine = ours.MLPClassifier((8,), solver="sgd", learning_rate="invscaling", momentum=0.0, random_state=0)
    mine.partial_fit(ROWS, CLASSES, classes=range(10))  # lowers the rate by the square root of 201
    coefs, small = mine.coefs_[0], pickle.loads(pickle.dumps(mine)).partial_fit(ROWS, CLASSES).coefs_[0]
    large = mine.set_params(learning_rate="constant").partial_fit(ROWS, CLASSES).coefs_[0]
    np.testing.assert_allclose(large - coefs, np.sqrt(201) * (small - coefs), atol=1e-9)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_other_sizes_are_refused_by_the_parameters_name(method):
    targets = ROWS[:, 20]
    mine = ours.MLPRegressor(hidden_layer_sizes=(8,), warm_start=True, max_iter=2).fit(ROWS, targets)
    with pytest.raises(
        ValueError, match=r"hidden_layer_sizes must stay \(8,\) to continue from the last fit, got \(9, 9\)"
    ):
        getattr(mine.set_params(hidden_layer_sizes=(9, 9)), method)(ROWS, targets)
    with pytest.raises(ValueError, match="y must have as many columns as in the last fit, 1, got 2"):
        getattr(mine.set_params(hidden_layer_sizes=8), method)(ROWS, np.stack([targets, targets], axis=1))
    getattr(mine, method)(ROWS, targets)


def test_a_series_of_partial_fits_chooses_its_backend_once(monkeypatch):
    asked = []

    def noted(name, *, job=None):
        asked.append((name, job and job.epochs))
        return get_backend("numba" if name == "auto" and job.rows == 200 else "numpy" if name == "auto" else name)

    monkeypatch.setattr("xpnn.nn.estimator.base.get_backend", noted)
    mine = ours.MLPClassifier((8,), max_iter=2)
    for rows in (200, 100, 200):
        mine.partial_fit(ROWS[:rows], CLASSES[:rows], classes=range(10))
        assert mine.backend_ == "numba"
    mine.fit(ROWS[:100], CLASSES[:100]).partial_fit(ROWS[:100], CLASSES[:100])
    assert asked == [("auto", 1), ("numba", 1), ("numba", 1), ("auto", 2), ("auto", 1)]
