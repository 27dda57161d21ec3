"""The regressor's losses: scikit-learn's Poisson loss, and what each loss predicts."""

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6")

from sklearn import neural_network as theirs
from sklearn.linear_model import PoissonRegressor, QuantileRegressor
from xpnn.nn.estimator import MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(300, 3))
COUNTS = GENERATOR.poisson(np.exp(0.5 * X[:, 0] + 1)).astype(float)
LINE = {"hidden_layer_sizes": (1,), "activation": "identity", "alpha": 0, "random_state": 0}


@pytest.mark.skipif("loss" not in theirs.MLPRegressor().get_params(), reason="scikit-learn before 1.7")
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_poisson_is_scikit_learns(solver, early_stopping):
    options = {"hidden_layer_sizes": (5,), "loss": "poisson", "solver": solver, "max_iter": 8, "random_state": 1}
    options["early_stopping"] = early_stopping and solver == "adam"
    y = np.column_stack([COUNTS, COUNTS[::-1]])
    wanted, got = (each(**options).fit(X, y) for each in (theirs.MLPRegressor, MLPRegressor))
    np.testing.assert_allclose(got.loss_, wanted.loss_, rtol=1e-6)
    np.testing.assert_allclose(got.predict(X), wanted.predict(X), rtol=1e-5)
    assert got.out_activation_ == wanted.out_activation_ == "exp"
    if options["early_stopping"]:
        np.testing.assert_allclose(got.validation_scores_, wanted.validation_scores_, rtol=1e-5)
    assert got.score(X, y) == pytest.approx(wanted.score(X, y), rel=1e-5)


def test_poisson_without_hidden_units_is_the_linear_model():
    line = MLPRegressor(**LINE, loss="poisson", solver="lbfgs", max_iter=1000, tol=1e-8).fit(X, COUNTS)
    np.testing.assert_allclose(
        line.predict(X), PoissonRegressor(alpha=0, tol=1e-8).fit(X, COUNTS).predict(X), rtol=1e-4
    )


@pytest.mark.parametrize("quantile", [0.1, 0.75])
def test_quantiles_of_a_line(quantile):
    y = X[:, 0] + (1 + 0.5 * X[:, 1] ** 2) * GENERATOR.normal(size=300)
    fit = {"solver": "adam", "learning_rate_init": 0.01, "max_iter": 400, "n_iter_no_change": 400}
    line = MLPRegressor(**LINE, **fit, loss="quantile", quantile=quantile).fit(X, y)
    wanted = QuantileRegressor(quantile=quantile, alpha=0).fit(X, y).predict(X)
    assert np.abs(line.predict(X) - wanted).mean() < 0.05
    assert (y < line.predict(X)).mean() == pytest.approx(quantile, abs=0.02)


@pytest.mark.parametrize(("loss", "options"), [("absolute_error", {}), ("huber", {"delta": 0.1})])
def test_robust_losses_do_not_follow_outliers(loss, options):
    y = 2 * X[:, 0] - 1
    y[:30] += 100
    fit = {"solver": "adam", "learning_rate_init": 0.01, "max_iter": 300, "n_iter_no_change": 300}
    line = MLPRegressor(**LINE, **fit, loss=loss, **options).fit(X, y)
    assert np.abs(line.predict(X) - (2 * X[:, 0] - 1)).max() < 0.2
    assert np.abs(MLPRegressor(**LINE, **fit).fit(X, y).predict(X) - (2 * X[:, 0] - 1)).max() > 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss": "quantile", "quantile": 1.0}, "'quantile' parameter of MLPRegressor must be a float in the range"),
        ({"loss": "huber", "delta": 0}, "'delta' parameter of MLPRegressor must be a float in the range"),
        ({"loss": "quantile:0.9"}, "got 'quantile:0.9': .* loss=\"quantile\", quantile=0.9"),
        ({"loss": "huber:2"}, "got 'huber:2': .* loss=\"huber\", delta=2"),
        ({"loss": "hinge"}, "'loss' parameter of MLPRegressor must be a str among"),
        ({"loss": "poisson"}, "labels of the loss poisson must be >= 0, got -1.0"),
    ],
)
def test_wrong_losses_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        MLPRegressor(**options).fit(X, COUNTS - 1 * (COUNTS == 0))


@pytest.mark.parametrize("loss", ["poisson", "quantile"])
def test_a_network_of_the_regressor_predicts_the_same(loss):
    line = MLPRegressor(hidden_layer_sizes=(4,), loss=loss, quantile=0.9, max_iter=5, random_state=0).fit(X, COUNTS)
    np.testing.assert_allclose(line.to_mlp().predict(X).ravel(), line.predict(X), rtol=1e-12)
