"""Class weights, validation rows of the caller, and threads."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6")

from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.metrics import log_loss
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight
from xpnn.backends.threads import thread_limit
from xpnn.nn.estimator import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ROWS, CLASSES = load_iris(return_X_y=True)
ROWS = (ROWS - ROWS.mean(axis=0)) / ROWS.std(axis=0)
FEW = np.r_[0:50, 50:70, 100:140]  # 50, 20 and 40 rows
LABELS = np.stack([CLASSES == 0, CLASSES != 1], axis=1).astype(int)
WORDS = np.array(["setosa", "versicolor", "virginica"])[CLASSES]
QUICK = {"hidden_layer_sizes": (6,), "max_iter": 4, "random_state": 0, "batch_size": 30}


@pytest.mark.parametrize(
    ("targets", "class_weight"),
    [
        (CLASSES, "balanced"),
        (CLASSES, {0: 3.0, 1: 0.0, 2: 1.0}),
        (WORDS, {"setosa": 3.0}),
        (CLASSES == 1, {False: 1.0, True: 5.0}),
        (LABELS, "balanced"),
        (LABELS, [{0: 1.0, 1: 2.0}, {0: 4.0, 1: 1.0}]),
    ],
)
@pytest.mark.parametrize("settings", [{}, {"early_stopping": True}, {"solver": "lbfgs"}], ids=str)
def test_class_weights_are_row_weights(targets, class_weight, settings):
    targets = targets[FEW]
    own = np.arange(len(targets)) % 3 + 1.0
    by_class = MLPClassifier(**QUICK, **settings, class_weight=class_weight).fit(ROWS[FEW], targets, own)
    weights = own * compute_sample_weight(class_weight, targets)
    by_row = MLPClassifier(**QUICK, **settings).fit(ROWS[FEW], targets, weights)
    np.testing.assert_allclose(by_class.coefs_[0], by_row.coefs_[0], rtol=0, atol=1e-12)
    if settings.get("early_stopping"):
        assert by_class.validation_scores_ == pytest.approx(by_row.validation_scores_)
        assert by_class.validation_curve_ == pytest.approx(by_row.validation_curve_)


def test_class_weights_in_partial_fit_are_of_all_classes():
    by_class, by_row = MLPClassifier(**QUICK, class_weight={2: 3.0}), MLPClassifier(**QUICK)
    for part in (slice(0, 50), slice(90, 150)):  # the first has one class alone
        by_class.partial_fit(ROWS[part], CLASSES[part], classes=[0, 1, 2])
        by_row.partial_fit(ROWS[part], CLASSES[part], np.where(CLASSES[part] == 2, 3.0, 1.0), classes=[0, 1, 2])
    np.testing.assert_array_equal(by_class.coefs_[0], by_row.coefs_[0])
    with pytest.raises(ValueError, match="class_weight='balanced' needs all rows, but partial_fit has only some"):
        by_class.set_params(class_weight="balanced").partial_fit(ROWS, CLASSES)


@pytest.mark.parametrize(
    ("targets", "class_weight", "message"),
    [
        (CLASSES, "even", "The 'class_weight' parameter of MLPClassifier must be"),
        (CLASSES, {0: -1.0}, r"class_weight must be finite and at least 0, got \{0: -1.0\}"),
        (CLASSES, {7: 1.0}, "are not in class_weight"),
        (CLASSES, {0: 0.0, 1: 0.0, 2: 0.0}, "all weights of rows are 0"),
        (CLASSES, [{0: 1.0}], "class_weight must be 'balanced' or a dict for these targets"),
        (LABELS, {0: 1.0}, "class_weight must be 'balanced' or a list of 2 dicts, one a label, for these targets"),
        (LABELS, [{0: 1.0}], "class_weight must be 'balanced' or a list of 2 dicts"),
    ],
)
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_class_weights_are_refused(targets, class_weight, message, solver):
    with pytest.raises(ValueError, match=message):
        MLPClassifier(**QUICK, solver=solver, class_weight=class_weight).fit(ROWS, targets)


def test_the_validation_curve_is_the_loss_of_the_rows_given():
    training, held = slice(0, None, 2), slice(1, None, 2)
    given = {"X_val": ROWS[held], "y_val": WORDS[held], "sample_weight_val": np.arange(75) % 2 + 1.0}
    plain = MLPClassifier(**QUICK).fit(ROWS[training], WORDS[training])
    assert plain.validation_curve_ is None
    weighted = MLPClassifier(**QUICK, class_weight={"setosa": 3.0}).fit(ROWS[training], WORDS[training], **given)
    mine = MLPClassifier(**QUICK).fit(ROWS[training], WORDS[training], **given)
    np.testing.assert_array_equal(mine.coefs_[0], plain.coefs_[0])  # they are looked at alone
    assert len(mine.validation_curve_) == 4
    weights = given["sample_weight_val"]
    assert mine.validation_curve_[-1] == pytest.approx(
        log_loss(WORDS[held], mine.predict_proba(ROWS[held]), sample_weight=weights), rel=1e-12
    )
    weights = weights * np.where(WORDS[held] == "setosa", 3.0, 1.0)
    assert weighted.validation_curve_[-1] == pytest.approx(
        log_loss(WORDS[held], weighted.predict_proba(ROWS[held]), sample_weight=weights), rel=1e-12
    )
    again = pickle.loads(pickle.dumps(mine)).set_params(warm_start=True).fit(ROWS[training], WORDS[training], **given)
    assert again.validation_curve_[:4] == mine.validation_curve_
    assert len(again.validation_curve_) == 8
    assert clone(mine).fit(ROWS, WORDS).validation_curve_ is None


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_the_validation_curve_of_a_regression_is_in_the_units_of_the_loss(solver):
    targets = np.stack([ROWS[:, 0], ROWS[:, 1]], axis=1)
    mine = MLPRegressor(**QUICK, solver=solver, alpha=0.0).fit(ROWS, targets, X_val=ROWS[:9], y_val=targets[:9])
    assert len(mine.validation_curve_) == mine.n_iter_ == 4
    errors = mine.predict(ROWS[:9]) - targets[:9]
    assert mine.validation_curve_[-1] == pytest.approx((errors**2).mean() / 2, rel=1e-9)


def test_early_stopping_heeds_the_rows_given_and_holds_out_none():
    settings = {**QUICK, "early_stopping": True, "n_iter_no_change": 3, "max_iter": 200, "learning_rate_init": 0.05}
    mine = MLPClassifier(**settings).fit(ROWS[::2], CLASSES[::2], X_val=ROWS[1::2], y_val=CLASSES[1::2])
    assert mine.t_ == 75 * mine.n_iter_
    assert len(mine.validation_scores_) == len(mine.validation_curve_) == mine.n_iter_ < 200
    assert mine.best_validation_score_ == max(mine.validation_scores_) == mine.score(ROWS[1::2], CLASSES[1::2])


def test_a_pipeline_transforms_the_validation_rows():
    unscaled = 50 * ROWS + 3
    with config_context(enable_metadata_routing=True):
        network = MLPClassifier(**QUICK).set_fit_request(X_val=True, y_val=True)
        steps = [("scale", StandardScaler()), ("network", network)]
        piped = Pipeline(steps, transform_input=["X_val"]).fit(
            unscaled, CLASSES, X_val=unscaled[:40], y_val=CLASSES[:40]
        )
    direct = MLPClassifier(**QUICK).fit(ROWS, CLASSES, X_val=ROWS[:40], y_val=CLASSES[:40])
    assert piped[-1].validation_curve_ == pytest.approx(direct.validation_curve_)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"X_val": ROWS}, "y_val is missing: pass X_val and y_val together"),
        ({"y_val": CLASSES}, "X_val is missing: pass X_val and y_val together"),
        ({"sample_weight_val": np.ones(150)}, "X_val is missing"),
        ({"X_val": ROWS[:, :2], "y_val": CLASSES}, "X has 2 features, but MLPClassifier is expecting 4"),
        ({"X_val": ROWS, "y_val": CLASSES + 7}, "`y` has classes not in"),
        ({"X_val": ROWS, "y_val": CLASSES[:9]}, "inconsistent numbers of samples"),
    ],
)
def test_validation_rows_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        MLPClassifier(**QUICK).fit(ROWS, CLASSES, **given)


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csr_array])
def test_predictions_for_sparse_labels_are_sparse(kind):
    first = MLPClassifier(**QUICK).fit(ROWS, kind(LABELS))
    second = MLPClassifier(**QUICK).partial_fit(ROWS, kind(LABELS), classes=[0, 1])
    for mine in (first, second):
        predicted = pickle.loads(pickle.dumps(mine)).predict(ROWS)
        assert type(predicted) is kind
        np.testing.assert_array_equal(predicted.toarray(), mine.predict_proba(ROWS) > 0.5)
    assert type(first.fit(ROWS, LABELS).predict(ROWS)) is np.ndarray


def test_threads_are_limited_in_fits_and_predictions(monkeypatch):
    seen = []

    def noted(self, *arguments):
        seen.append(thread_limit(8))
        return original(self, *arguments)

    for name in ("_begin", "_are_valid"):
        original = getattr(MLPClassifier, name)
        with monkeypatch.context() as patch:
            patch.setattr(MLPClassifier, name, noted)
            MLPClassifier(**QUICK, n_threads=3).fit(ROWS, CLASSES).predict(ROWS)
    MLPClassifier(**QUICK).fit(ROWS, CLASSES)
    assert seen == [3, 3]
    assert thread_limit(8) == 8


def test_numbers_that_the_type_does_not_hold_and_targets_that_are_no_numbers_are_refused():
    mine = MLPClassifier(**QUICK).fit(ROWS.astype(np.float32), CLASSES)
    with pytest.raises(ValueError, match=r"X has numbers beyond the range of float32, up to .*e\+200: scale it"):
        mine.predict(ROWS * 1e200)
    with pytest.raises(ValueError, match="y must be numbers, got dtype <U"):
        MLPRegressor(**QUICK).fit(ROWS, CLASSES.astype(str))
    with pytest.raises(ValueError, match=r"weights must be finite and at least 0, got -1\.0 at row 0"):
        MLPRegressor(**QUICK, solver="lbfgs").fit(ROWS, CLASSES, sample_weight=-np.ones(150))
    words = MLPClassifier(**QUICK).fit(ROWS, WORDS.astype(object))
    assert words.classes_.dtype.kind == "U"
