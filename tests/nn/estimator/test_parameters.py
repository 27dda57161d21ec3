"""What the estimators refuse, and what they warn of."""

import sys
from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6")

import sklearn
from sklearn import neural_network as theirs
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from xpnn.backends import MissingDependency, get_backend
from xpnn.nn import estimator as ours
from xpnn.nn.estimator import MLPClassifier, MLPRegressor

GENERATOR = np.random.default_rng(0)
ROWS = GENERATOR.normal(size=(40, 3))
CLASSES = (ROWS[:, 0] > 0).astype(int)

REFUSED = [
    ({"hidden_layer_sizes": -1}, "hidden_layer_sizes"),
    ({"hidden_layer_sizes": (3, 0)}, "hidden_layer_sizes must be > 0, got "),
    ({"hidden_layer_sizes": (2.5,)}, "hidden_layer_sizes must be > 0, got "),
    ({"activation": "ghost"}, "The 'activation' parameter of MLPClassifier must be a str among"),
    ({"solver": "hadoken"}, "The 'solver' parameter of MLPClassifier must be a str among"),
    ({"alpha": -1}, r"The 'alpha' parameter of MLPClassifier must be a float in the range \[0.0, inf\)"),
    ({"batch_size": 0}, "The 'batch_size' parameter"),
    ({"learning_rate": "converge"}, "The 'learning_rate' parameter"),
    ({"learning_rate_init": 0.0}, "The 'learning_rate_init' parameter"),
    ({"max_iter": 0}, "The 'max_iter' parameter"),
    ({"shuffle": "true"}, "The 'shuffle' parameter"),
    ({"random_state": -1}, "The 'random_state' parameter"),
    ({"momentum": 1}, "The 'momentum' parameter"),
    ({"validation_fraction": 1.0}, "The 'validation_fraction' parameter"),
    ({"beta_1": 1.0}, "The 'beta_1' parameter"),
    ({"epsilon": 0}, "The 'epsilon' parameter"),
    ({"n_iter_no_change": -1}, "The 'n_iter_no_change' parameter"),
    ({"backend": 3}, "The 'backend' parameter"),
    ({"backend": "nunpy"}, r"unknown backend 'nunpy' \(did you mean 'numpy'"),
    ({"dtype": "float16"}, "The 'dtype' parameter"),
    ({"dropout": 1.0}, "The 'dropout' parameter"),
    ({"solver": "lbfgs", "dropout": 0.5}, "dropout needs a solver that takes steps"),
    ({"early_stopping": True, "validation_fraction": 0.01}, "The test_size = 1 should be greater or equal to"),
    ({"hidden_layer_sizes": (10**6, 10**6)}, r"a network of sizes \[3, 1000000, 1000000, 1\] takes 7,450.6 GiB"),
]


@pytest.mark.parametrize(("parameters", "message"), REFUSED, ids=[str(parameters) for parameters, _ in REFUSED])
def test_parameters_are_refused(parameters, message):
    estimator = MLPClassifier(**parameters)
    with pytest.raises(ValueError, match=message):
        estimator.fit(ROWS, CLASSES)
    assert not hasattr(estimator, "loss_curve_") or not estimator.loss_curve_


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("MLPClassifier", {"class_weight": None}),
        ("MLPRegressor", {"loss": "squared_error", "quantile": 0.5, "delta": 1.0}),
    ],
)
def test_the_parameters_are_those_of_scikit_learn_and_some_more(name, own):
    mine, expected = (getattr(module, name)().get_params() for module in (ours, theirs))
    assert mine == {**expected, "backend": "auto", "dtype": None, "dropout": 0.0, "n_threads": None, **own}


def test_rows_are_counted_and_networks_are_fitted_first():
    with pytest.raises(NotFittedError):
        MLPClassifier().predict(ROWS)
    fitted = MLPClassifier(solver="lbfgs", max_iter=3, tol=1).fit(ROWS, CLASSES)
    with pytest.raises(ValueError, match="X has 2 features, but MLPClassifier is expecting 3 features"):
        fitted.predict(ROWS[:, :2])
    with pytest.raises(ValueError, match="Input X contains NaN"):
        fitted.predict(np.full((1, 3), np.nan))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        fitted.fit(ROWS, CLASSES[:5])


def test_targets_are_refused():
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        MLPClassifier().fit(ROWS, ROWS[:, 0])
    with pytest.raises(ValueError, match="Multioutput target data is not supported"):
        MLPClassifier().fit(ROWS, np.stack([CLASSES, CLASSES + 3], axis=1))
    with pytest.raises(ValueError, match="The validation set is too small"):
        MLPRegressor(early_stopping=True, validation_fraction=0.01).fit(ROWS, ROWS[:, 0])
    with pytest.raises(ValueError, match="NaN"):
        MLPRegressor().fit(ROWS, np.full(40, np.nan))
    with pytest.raises(ValueError, match="sample_weight"):
        MLPRegressor().fit(ROWS, CLASSES, sample_weight=[1.0, 2.0])
    with pytest.raises(ValueError, match=r"finite and at least 0, got -1\.0 at row 0"):
        MLPRegressor().fit(ROWS, CLASSES, sample_weight=-np.ones(40))
    with pytest.warns(sklearn.exceptions.DataConversionWarning, match="column-vector"):
        MLPClassifier(max_iter=500, tol=1).fit(ROWS, CLASSES[:, None])


def test_partial_fit_knows_its_classes():
    estimator = MLPClassifier()
    with pytest.raises(ValueError, match="classes must be passed on the first call to partial_fit"):
        estimator.partial_fit(ROWS, CLASSES)
    estimator.partial_fit(ROWS, CLASSES, classes=[0, 1, 2])
    assert estimator.coefs_[-1].shape == (100, 3)
    with pytest.raises(ValueError, match=r"`y` has classes not in `self.classes_`. `self.classes_` has \[0 1 2\]"):
        estimator.partial_fit(ROWS, CLASSES + 2)
    with pytest.raises(ValueError, match="`y` has classes not in"):
        estimator.partial_fit(ROWS, np.array(["a", "b"])[CLASSES])
    with pytest.raises(ValueError, match="does not support early_stopping=True"):
        estimator.set_params(early_stopping=True).partial_fit(ROWS, CLASSES)


def test_lbfgs_has_no_partial_fit():
    assert not hasattr(MLPClassifier(solver="lbfgs"), "partial_fit")
    with pytest.raises(AttributeError, match="has no attribute 'partial_fit'"):
        MLPRegressor(solver="lbfgs").partial_fit  # noqa: B018


def test_warm_start_refuses_other_classes():
    estimator = MLPClassifier(warm_start=True, max_iter=500, tol=1, n_iter_no_change=1).fit(ROWS, CLASSES)
    for others in (CLASSES * 0, CLASSES + 1):
        with pytest.raises(ValueError, match="warm_start can only be used where `y` has the same classes"):
            estimator.fit(ROWS, others)


def test_warnings():
    message = r"Stochastic Optimizer: Maximum iterations \(2\) reached and the optimization hasn't converged yet\."
    with pytest.warns(ConvergenceWarning, match=message) as caught:
        MLPClassifier(max_iter=2).fit(ROWS, CLASSES)
    assert caught[0].filename == __file__  # the line that fits, not one of ours
    with pytest.warns(ConvergenceWarning, match="lbfgs failed to converge"):
        MLPRegressor(solver="lbfgs", max_iter=2).fit(ROWS, ROWS[:, 0])
    with pytest.warns(UserWarning, match="Got `batch_size` less than 1 or larger than sample size"):
        MLPClassifier(batch_size=41, tol=1, max_iter=100).fit(ROWS, CLASSES)


def test_positive_numbers_that_overflow_are_named():
    rows = np.finfo(np.float64).max * GENERATOR.uniform(size=(10, 2))
    with pytest.raises(ValueError, match=r"Solver produced non-finite parameter weights\. The input data may contain"):
        MLPRegressor().fit(rows, np.arange(10.0))


def test_lbfgs_goes_on_in_the_scope_of_its_backend(monkeypatch):
    """Numba's is that of one BLAS thread, since it promises the same bits for any number."""
    backend, inside = get_backend("numpy"), []

    @contextmanager
    def scope():
        inside.append(True)
        yield
        inside.pop()

    def gradients(*args, **options):
        assert inside
        return type(backend).gradients(backend, *args, **options)

    monkeypatch.setattr(backend, "scope", scope)
    monkeypatch.setattr(backend, "gradients", gradients)
    monkeypatch.setattr("xpnn.nn.estimator.base.get_backend", lambda name, *, job=None: backend)  # noqa: ARG005
    assert MLPRegressor(solver="lbfgs", tol=0.01, max_iter=500).fit(ROWS, ROWS[:, 0]).n_iter_ > 0


def test_the_backend_is_chosen_by_the_epochs_that_are_run(monkeypatch):
    asked = []

    def noted(name, *, job=None):
        asked.append((name, job.multiply_adds, job.uses_lbfgs))
        return get_backend("numpy")

    monkeypatch.setattr("xpnn.nn.estimator.base.get_backend", noted)
    epoch = 3 * 40 * (3 * 100 + 100)
    small = {"tol": 1.0, "n_iter_no_change": 1}
    MLPRegressor(max_iter=300, **small).fit(ROWS, ROWS[:, 0])
    MLPRegressor(max_iter=300).partial_fit(ROWS, ROWS[:, 0])
    MLPRegressor(max_iter=300, dropout=0.5, backend="numba", **small).fit(ROWS, ROWS[:, 0])
    MLPRegressor(max_iter=300, solver="lbfgs", tol=1.0).fit(ROWS, ROWS[:, 0])
    assert asked == [
        ("auto", 300 * epoch, False), ("auto", epoch, False), ("numba", 300 * epoch, False),
        ("auto", 300 * epoch, True),
    ]  # fmt: skip


def test_without_scikit_learn_the_package_says_what_is_missing(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("xpnn.nn.estimator")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingDependency, match=r"need scikit-learn 1\.6 or newer: pip install"):
        import xpnn.nn.estimator  # noqa: F401
