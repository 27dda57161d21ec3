"""The estimators take the same steps as scikit-learn's from the same random_state."""

import copy
import inspect
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6")

import sklearn
from sklearn import neural_network as theirs
from sklearn.datasets import load_iris, make_regression
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from xpnn import nn
from xpnn.nn import estimator as ours

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

IRIS, SPECIES = load_iris(return_X_y=True)
IRIS = (IRIS - IRIS.mean(axis=0)) / IRIS.std(axis=0)
NUMBERS, TARGETS = make_regression(120, 5, random_state=0)
TARGETS = TARGETS / 100

PROBLEMS = {
    "classes": ("MLPClassifier", IRIS, np.array(["setosa", "versicolor", "virginica"])[SPECIES]),
    "two classes": ("MLPClassifier", IRIS, SPECIES == 1),
    "labels": ("MLPClassifier", IRIS, np.stack([SPECIES == 0, SPECIES != 1], axis=1).astype(int)),
    "number": ("MLPRegressor", NUMBERS, TARGETS),
    "numbers": ("MLPRegressor", NUMBERS, np.stack([TARGETS, NUMBERS[:, 0]], axis=1)),
}
SETTINGS = {
    "sgd": {"solver": "sgd", "shuffle": False},
    "adam": {"solver": "adam", "shuffle": False},
    "shuffled": {"solver": "adam"},
    "default batch": {"solver": "adam", "batch_size": "auto"},
    "even batches": {"solver": "adam", "batch_size": 30},
    "no momentum": {"solver": "sgd", "momentum": 0, "activation": "logistic"},
    "plain momentum": {"solver": "sgd", "nesterovs_momentum": False, "activation": "tanh"},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "activation": "identity"},
    "early stopping": {"early_stopping": True, "max_iter": 40, "validation_fraction": 0.2},
    "adaptive": {
        "solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.1,
        "tol": 1e-2, "n_iter_no_change": 2, "max_iter": 200,
    },
    "no hidden layer": {"hidden_layer_sizes": ()},
}  # fmt: skip


def fit_both(problem, *, weights=None, **settings):
    """Return scikit-learn's estimator and ours after the same fit."""
    kind, rows, targets = PROBLEMS[problem]
    settings = {
        "hidden_layer_sizes": (20, 10), "max_iter": 10, "random_state": 1, "batch_size": 50, "alpha": 0.01, **settings,
    }  # fmt: skip
    weighted = {} if weights is None else {"sample_weight": weights}
    return [getattr(module, kind)(**settings).fit(rows, targets, **weighted) for module in (theirs, ours)]


def assert_same_coefficients(mine, expected, *, atol=1e-10):
    assert len(mine.coefs_) == len(expected.coefs_)
    for array, reference in zip(mine.coefs_ + mine.intercepts_, expected.coefs_ + expected.intercepts_, strict=True):
        assert array.shape == reference.shape
        assert array.dtype == reference.dtype
        np.testing.assert_allclose(array, reference, rtol=0, atol=atol)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_coefficients_are_those_of_scikit_learn(problem, settings):
    if problem == "classes" and settings.get("early_stopping") and sklearn.__version__ < "1.9":
        pytest.skip("scikit-learn before 1.9 stops early on classes that are numbers alone")
    expected, mine = fit_both(problem, **settings)
    assert_same_coefficients(mine, expected)
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(mine, name) == getattr(expected, name), name
    # The penalty goes along a line from an epoch's first step to its last.
    np.testing.assert_allclose(mine.loss_curve_, expected.loss_curve_, rtol=1e-3)
    assert mine.loss_ == mine.loss_curve_[-1]
    for name in ("best_loss_", "best_validation_score_", "validation_scores_"):
        figure, reference = getattr(mine, name), getattr(expected, name)
        assert figure is None if reference is None else figure == pytest.approx(reference, rel=1e-3), name


@pytest.mark.parametrize("problem", PROBLEMS)
def test_predictions_are_those_of_scikit_learn(problem):
    _, rows, targets = PROBLEMS[problem]
    expected, mine = fit_both(problem, max_iter=30)
    np.testing.assert_allclose(mine.score(rows, targets), expected.score(rows, targets), rtol=1e-10)
    if problem.startswith("number"):
        np.testing.assert_allclose(mine.predict(rows), expected.predict(rows), rtol=0, atol=1e-10)
        return
    np.testing.assert_array_equal(mine.classes_, expected.classes_)
    np.testing.assert_array_equal(mine.predict(rows), expected.predict(rows))
    np.testing.assert_allclose(mine.predict_proba(rows), expected.predict_proba(rows), rtol=0, atol=1e-10)
    np.testing.assert_allclose(mine.predict_log_proba(rows), expected.predict_log_proba(rows), rtol=0, atol=1e-8)


def test_loss_of_one_batch_and_of_no_penalty_is_exactly_that_of_scikit_learn():
    for settings in ({"batch_size": 150, "alpha": 1.0}, {"batch_size": 40, "alpha": 0.0}):
        expected, mine = fit_both("classes", **settings)
        np.testing.assert_allclose(mine.loss_curve_, expected.loss_curve_, rtol=1e-12)


@pytest.mark.filterwarnings("ignore:Got `batch_size`:UserWarning")
@pytest.mark.parametrize("problem", ["classes", "two classes", "number"])
def test_weighted_rows_count_as_in_scikit_learn(problem):
    if "sample_weight" not in inspect.signature(theirs.MLPClassifier.fit).parameters:
        pytest.skip("weights came to scikit-learn's networks with 1.7")
    count = len(PROBLEMS[problem][1])
    weights = np.random.default_rng(0).uniform(0, 3, count)
    for settings in ({"batch_size": count}, {"batch_size": 50}, {"solver": "lbfgs", "alpha": 1.0, "max_iter": 5}):
        expected, mine = fit_both(problem, weights=weights, **settings)
        assert_same_coefficients(mine, expected, atol=1e-8)
        plain = fit_both(problem, **settings)[1]
        assert np.abs(mine.coefs_[0] - plain.coefs_[0]).max() > 1e-4


@pytest.mark.parametrize("problem", ["classes", "two classes", "labels", "number"])
def test_lbfgs_takes_the_iterations_of_scikit_learn(problem):
    expected, mine = fit_both(problem, solver="lbfgs", max_iter=15)
    assert_same_coefficients(mine, expected, atol=1e-7)
    assert mine.n_iter_ == expected.n_iter_
    assert mine.loss_ == pytest.approx(expected.loss_, rel=1e-9)
    assert not hasattr(mine, "loss_curve_")


def test_lbfgs_of_several_numbers_minimizes_the_loss_whose_gradient_it_has():
    expected, mine = fit_both("numbers", solver="lbfgs", max_iter=2000, tol=1e-6, activation="identity", alpha=1.0)
    _, rows, targets = PROBLEMS["numbers"]
    penalty = sum(float((array**2).sum()) for array in mine.coefs_) / (2 * len(rows))
    assert mine.loss_ == pytest.approx(((targets - mine.predict(rows)) ** 2).mean() / 2 + penalty)
    assert mine.loss_ == pytest.approx(expected.loss_, rel=1e-3)  # the same minimum


@pytest.mark.parametrize("problem", ["classes", "two classes", "labels", "number"])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_partial_fit_goes_on_where_the_last_one_ended(problem, solver):
    kind, rows, targets = PROBLEMS[problem]
    first = (
        {"classes": np.arange(targets.shape[1]) if targets.ndim > 1 else np.unique(targets)}
        if kind == "MLPClassifier"
        else {}
    )
    settings = {"solver": solver, "random_state": 3, "batch_size": 20, "learning_rate": "invscaling"}
    expected, mine = (getattr(module, kind)(**settings) for module in (theirs, ours))
    for estimator in (expected, mine):
        estimator.partial_fit(rows[:60], targets[:60], **first)
        for start in (60, 90, 0):
            estimator.partial_fit(rows[start : start + 60], targets[start : start + 60])
    assert_same_coefficients(mine, expected)
    assert (mine.n_iter_, mine.t_, len(mine.loss_curve_)) == (expected.n_iter_, expected.t_, 4)


def test_partial_fit_goes_on_after_fit():
    _, rows, targets = PROBLEMS["classes"]
    expected, mine = fit_both("classes")
    assert_same_coefficients(mine.partial_fit(rows, targets), expected.partial_fit(rows, targets))


def test_warm_start_goes_on_and_a_new_fit_does_not():
    _, rows, targets = PROBLEMS["number"]
    expected, mine = fit_both("number", warm_start=True)
    assert_same_coefficients(mine.fit(rows, targets), expected.fit(rows, targets))
    assert (mine.t_, len(mine.loss_curve_)) == (expected.t_, 20)
    again = ours.MLPRegressor(random_state=1, max_iter=3)
    first = again.fit(rows, targets).coefs_[0].copy()
    np.testing.assert_array_equal(again.fit(rows, targets).coefs_[0], first)


def test_a_warm_start_takes_coefficients_that_were_assigned():
    _, rows, targets = PROBLEMS["classes"]
    start = theirs.MLPClassifier((8,), random_state=5, max_iter=1, learning_rate_init=1e-12).fit(rows, targets)
    mine = ours.MLPClassifier((8,), random_state=0, warm_start=True, max_iter=5, shuffle=False)
    mine.coefs_, mine.intercepts_ = start.coefs_, start.intercepts_
    expected = theirs.MLPClassifier((8,), random_state=5, max_iter=5, shuffle=False).fit(rows, targets)
    assert_same_coefficients(mine.fit(rows, targets), expected)
    mine.coefs_ = [np.zeros_like(array) for array in mine.coefs_]
    mine.intercepts_[1] = np.array([0.0, 1.0, 0.0])
    assert set(mine.predict(rows)) == {"versicolor"}
    mine.coefs_ = [np.zeros((4, 9)), np.zeros((9, 3))]
    with pytest.raises(ValueError, match=r"layers\.0\.weight must have shape \(4, 8\), got \(4, 9\)"):
        mine.fit(rows, targets)


def test_a_random_state_object_moves_on_as_in_scikit_learn():
    shared = [np.random.RandomState(0), np.random.RandomState(0)]
    _, rows, targets = PROBLEMS["classes"]
    fitted = [
        [module.MLPClassifier((5,), random_state=state, max_iter=2, batch_size=20).fit(rows, targets) for _ in range(2)]
        for module, state in zip((theirs, ours), shared, strict=True)
    ]
    for expected, mine in zip(*fitted, strict=True):
        assert_same_coefficients(mine, expected)
    assert shared[0].rand() == shared[1].rand()


@pytest.mark.parametrize("solver", ["rmsprop", "adamw"])
def test_our_other_solvers_learn(solver):
    _, rows, targets = PROBLEMS["classes"]
    mine = ours.MLPClassifier(solver=solver, random_state=0, max_iter=60, learning_rate_init=0.01).fit(rows, targets)
    assert mine.score(rows, targets) > 0.95
    assert mine.loss_curve_[-1] < mine.loss_curve_[0] / 2


def test_adamw_decays_by_alpha_and_leaves_the_penalty_out():
    _, rows, targets = PROBLEMS["classes"]
    weak, strong = (
        ours.MLPClassifier(solver="adamw", alpha=alpha, random_state=0, max_iter=40, learning_rate_init=0.01).fit(
            rows, targets
        )
        for alpha in (0.0, 10.0)
    )
    assert np.abs(strong.coefs_[0]).sum() < np.abs(weak.coefs_[0]).sum() / 2
    one = ours.MLPClassifier(solver="adamw", alpha=10.0, random_state=0, max_iter=1, batch_size=150).fit(rows, targets)
    plain = ours.MLPClassifier(solver="adam", alpha=0.0, random_state=0, max_iter=1, batch_size=150).fit(rows, targets)
    assert one.loss_ == pytest.approx(plain.loss_, rel=1e-12)


def test_dropout_leaves_units_out_in_training_alone():
    _, rows, targets = PROBLEMS["classes"]
    settings = {"random_state": 0, "max_iter": 30, "learning_rate_init": 0.01, "batch_size": 30}
    plain, mine, again = (ours.MLPClassifier(dropout=rate, **settings).fit(rows, targets) for rate in (0.0, 0.5, 0.5))
    assert mine.loss_ > plain.loss_
    np.testing.assert_array_equal(mine.coefs_[0], again.coefs_[0])
    np.testing.assert_array_equal(mine.predict(rows), mine.predict(rows))
    assert mine.score(rows, targets) > 0.9


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_the_type_is_that_of_the_rows_or_the_given_one(dtype, solver):
    _, rows, targets = PROBLEMS["number"]
    settings = {"solver": solver, "max_iter": 3, "random_state": 0}
    kept = ours.MLPRegressor(**settings).fit(rows.astype(dtype), targets)
    given = ours.MLPRegressor(**settings, dtype=dtype).fit(rows, targets)
    for mine in (kept, given):
        assert {array.dtype.name for array in mine.coefs_ + mine.intercepts_} == {dtype}
        assert mine.predict(rows.astype(dtype)).dtype == dtype
    expected = theirs.MLPRegressor(**settings).fit(rows.astype(dtype), targets)
    np.testing.assert_allclose(kept.coefs_[0], expected.coefs_[0], atol=1e-4 if dtype == "float32" else 1e-10)


def test_backends_agree():
    _, rows, targets = PROBLEMS["classes"]
    expected = theirs.MLPClassifier((8,), random_state=0, max_iter=5, batch_size=30).fit(rows, targets)
    for backend in ("numpy", "numba"):
        mine = ours.MLPClassifier((8,), random_state=0, max_iter=5, batch_size=30, backend=backend).fit(rows, targets)
        assert mine.backend_ == backend
        assert_same_coefficients(mine, expected)
        np.testing.assert_array_equal(mine.predict(rows), expected.predict(rows))


def test_a_run_that_diverges_keeps_its_best_weights_or_says_so():
    _, rows, targets = PROBLEMS["number"]
    settings = {"solver": "sgd", "learning_rate_init": 1.0, "activation": "identity", "random_state": 0, "max_iter": 20}
    with pytest.raises(ValueError, match="Solver produced non-finite parameter weights"):
        ours.MLPRegressor(**settings).fit(1e3 * rows, targets)
    mine = ours.MLPRegressor(**settings, early_stopping=True)
    with pytest.warns(ConvergenceWarning, match="the weights of the best epoch are kept"):
        mine.fit(1e2 * rows, targets)
    assert np.isnan(mine.validation_scores_[-1])
    assert all(np.isfinite(array).all() for array in mine.coefs_)


def test_a_training_that_fails_leaves_no_half_trained_estimator():
    _, rows, targets = PROBLEMS["number"]
    mine = ours.MLPRegressor(solver="sgd", activation="identity", random_state=0, max_iter=5, batch_size=30)
    untouched = copy.deepcopy(mine.fit(rows, targets))
    with pytest.raises(ValueError, match=r"Solver produced non-finite parameter weights.* in epoch 1, step 2"):
        mine.partial_fit(1e50 * rows, targets)
    with pytest.raises(ValueError, match=r"Solver produced non-finite parameter weights.* in epoch 2,"):
        mine.set_params(warm_start=True).fit(1e2 * rows, targets)
    for name in ("n_iter_", "t_", "loss_", "loss_curve_", "best_loss_"):
        assert getattr(mine, name) == getattr(untouched, name), name
    untouched.partial_fit(rows, targets)  # with the velocities of before
    np.testing.assert_array_equal(mine.partial_fit(rows, targets).coefs_[0], untouched.coefs_[0])
    assert mine.loss_curve_ == untouched.loss_curve_
    predictions, curve = mine.predict(rows), list(mine.loss_curve_)
    with pytest.raises(ValueError, match="Solver produced non-finite parameter weights"):
        mine.set_params(warm_start=False).fit(1e2 * rows, targets)
    np.testing.assert_array_equal(mine.predict(rows), predictions)
    assert mine.loss_curve_ == curve


class Raising(nn.Callback):
    """Ends a fit by an error."""

    def on_epoch_end(self, run, result):  # noqa: ARG002
        raise OSError("the disk is full")


@pytest.mark.parametrize(
    ("settings", "arguments", "error"),
    [
        ({}, {"X_val": [[0.0, 1.0, 2.0]]}, "y_val is missing"),
        ({"backend": "foo"}, {}, "unknown backend"),
        ({"class_weight": {99: 1}}, {}, "not in class_weight"),
        ({}, {"sample_weight": [-1.0] * 6}, "at least 0"),
        ({}, {"callbacks": [Raising()]}, "the disk is full"),
        ({}, {"callbacks": Raising()}, "put one into a list"),
        ({}, {"callbacks": [Raising]}, "set_callbacks"),
    ],
)
@pytest.mark.parametrize("warm_start", [False, True])
def test_a_fit_that_fails_leaves_the_estimator_as_it_was(settings, arguments, error, warm_start):
    rows, classes = np.eye(6, 3), list("aabbab")
    mine = ours.MLPClassifier((4,), max_iter=2, random_state=0).fit(rows, classes)
    before = mine.__dict__.copy()
    mine.set_params(warm_start=warm_start, **settings)
    with pytest.raises((ValueError, OSError), match=error):
        mine.fit(rows[:, ::-1], list("bcbcbb") if not warm_start else classes, **arguments)
    mine.set_params(warm_start=False, backend="auto", class_weight=None)
    assert {name for name in mine.__dict__ if mine.__dict__[name] is not before.get(name)} == set()
    unfitted = ours.MLPClassifier((4,), max_iter=2, **settings)
    with pytest.raises((ValueError, OSError), match=error):
        unfitted.fit(rows, classes, **arguments)
    with pytest.raises(NotFittedError):
        unfitted.predict(rows)


def test_early_stopping_of_a_quantile_goes_by_its_loss_and_keeps_the_coverage():
    generator = np.random.default_rng(0)
    x = np.sort(generator.random(600))[:, None]
    y = np.sin(6 * x[:, 0]) + (0.1 + 0.4 * x[:, 0]) * generator.normal(size=600)
    settings = {"learning_rate_init": 0.01, "random_state": 0, "early_stopping": True, "validation_fraction": 0.3}
    mine = ours.MLPRegressor("quantile", (32,), quantile=0.9, **settings).fit(x, y)
    assert mine.validation_scores_ == [-loss for loss in mine.validation_curve_]
    assert mine.best_validation_score_ == -min(mine.validation_curve_)
    assert np.mean(y <= mine.predict(x)) == pytest.approx(0.9, abs=0.05)


def test_the_validation_score_of_a_single_class_is_that_of_its_predictions():
    rows = np.random.default_rng(0).normal(size=(60, 3))
    mine, reference = (
        module.MLPClassifier(8, max_iter=15, early_stopping=True, random_state=0).fit(rows, np.ones(60, int))
        for module in (ours, theirs)
    )
    assert mine.validation_scores_ == reference.validation_scores_ == [1.0] * 12


def test_an_interrupt_keeps_the_steps_so_far(monkeypatch):
    _, rows, targets = PROBLEMS["classes"]
    from xpnn.nn.estimator.progress import RecordProgress

    real = RecordProgress.on_epoch_end

    def interrupted(self, run, result):
        real(self, run, result)
        if result.epoch == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(RecordProgress, "on_epoch_end", interrupted)
    mine = ours.MLPClassifier(random_state=0, max_iter=50)
    with pytest.warns(UserWarning, match=r"Training interrupted by user\."):
        mine.fit(rows, targets)
    monkeypatch.undo()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = theirs.MLPClassifier(random_state=0, max_iter=3).fit(rows, targets)
    assert mine.n_iter_ == 3
    assert_same_coefficients(mine, expected)
