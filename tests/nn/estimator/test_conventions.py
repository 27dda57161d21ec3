"""The estimators in scikit-learn's company: pipelines, searches, processes, files, sparse rows, named columns."""

import io
import pickle
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6")

import joblib
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris, make_regression
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xpnn.backends import BackendUnavailable
from xpnn.nn.estimator import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ROWS, CLASSES = load_iris(return_X_y=True)
CENTRED = (ROWS - ROWS.mean(axis=0)) / ROWS.std(axis=0)
QUICK = {"hidden_layer_sizes": (10,), "max_iter": 30, "learning_rate_init": 0.02, "random_state": 0}


def test_a_pipeline_is_searched_in_two_processes():
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(**QUICK))
    grid = {"mlpclassifier__alpha": [1e-4, 1e3], "mlpclassifier__solver": ["adam", "lbfgs"]}
    found = [GridSearchCV(pipeline, grid, cv=3, n_jobs=jobs).fit(ROWS, CLASSES) for jobs in (1, 2)]
    assert found[1].best_params_["mlpclassifier__alpha"] == 1e-4
    assert found[1].best_score_ > 0.9
    np.testing.assert_array_equal(found[0].cv_results_["mean_test_score"], found[1].cv_results_["mean_test_score"])


def test_calibration_voting_and_cross_validation():
    calibrated = CalibratedClassifierCV(MLPClassifier(**QUICK), cv=3).fit(CENTRED, CLASSES)
    np.testing.assert_allclose(calibrated.predict_proba(CENTRED).sum(axis=1), 1)
    assert calibrated.score(CENTRED, CLASSES) > 0.9
    voters = [("network", MLPClassifier(**QUICK)), ("line", LogisticRegression())]
    assert VotingClassifier(voters, voting="soft").fit(CENTRED, CLASSES).score(CENTRED, CLASSES) > 0.9
    probabilities = cross_val_predict(MLPClassifier(**QUICK), CENTRED, CLASSES, cv=3, method="predict_proba")
    assert probabilities.shape == (150, 3)
    assert (probabilities.argmax(axis=1) == CLASSES).mean() > 0.9


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_files_hold_all_that_goes_on(solver, tmp_path):
    fitted = MLPClassifier(**QUICK, solver=solver).fit(CENTRED, CLASSES)
    joblib.dump(fitted, tmp_path / "model.joblib")
    loaded = joblib.load(tmp_path / "model.joblib")
    np.testing.assert_array_equal(loaded.predict_proba(CENTRED), fitted.predict_proba(CENTRED))
    assert loaded.get_params() == fitted.get_params()
    assert pickle.loads(pickle.dumps(MLPClassifier(solver=solver))).solver == solver
    if solver == "adam":  # the optimizer's state is in the file
        np.testing.assert_array_equal(
            loaded.partial_fit(CENTRED, CLASSES).coefs_[0], fitted.partial_fit(CENTRED, CLASSES).coefs_[0]
        )


def test_a_model_of_a_backend_that_is_absent_is_loaded_on_numpy(monkeypatch):
    fitted = MLPClassifier(**QUICK).fit(CENTRED, CLASSES)
    fitted.backend_ = "cupy"
    stored = pickle.dumps(fitted)

    def absent(name):
        raise BackendUnavailable(f"backend {name} needs a device")

    with monkeypatch.context() as patch:
        patch.setattr("xpnn.nn.estimator.base.get_backend", absent)
        with pytest.warns(UserWarning, match=r"trained on the backend cupy, .* continues on numpy: .* needs a device"):
            loaded = pickle.loads(stored)
    assert loaded.backend_ == "numpy"
    fitted.backend_ = "numpy"
    np.testing.assert_array_equal(loaded.predict(CENTRED), fitted.predict(CENTRED))


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_array, sparse.coo_array])
def test_sparse_rows_are_as_good_as_dense_ones(form):
    mine = MLPClassifier(**QUICK).fit(form(ROWS), CLASSES)
    dense = MLPClassifier(**QUICK).fit(ROWS, CLASSES)
    np.testing.assert_array_equal(mine.coefs_[0], dense.coefs_[0])
    np.testing.assert_array_equal(mine.predict_proba(form(ROWS)), dense.predict_proba(ROWS))
    many = sparse.csr_matrix(np.tile(ROWS, (60, 1)))  # more than one tile
    np.testing.assert_array_equal(mine.predict(many), np.tile(dense.predict(ROWS), 60))


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"early_stopping": True},
        {"solver": "lbfgs"},
        pytest.param({"dtype": "float32"}, marks=pytest.mark.thorough),
        {"batch_size": 150},
    ],
)
def test_rows_of_few_entries_are_as_good_as_dense_ones(backend, kind, options):
    generator = np.random.default_rng(0)
    rows = sparse.random(150, 400, 0.02, format="csr", rng=generator)
    targets = np.arange(150) % 3
    settings = QUICK | {"max_iter": 5, "hidden_layer_sizes": (24,), "backend": backend} | options
    mine, dense = (kind(**settings).fit(x, targets, X_val=x[:20], y_val=targets[:20]) for x in (rows, rows.toarray()))
    tolerance = {"rtol": 1e-3, "atol": 1e-4} if "dtype" in options else {"rtol": 1e-6, "atol": 1e-8}
    np.testing.assert_allclose(mine.coefs_[0], dense.coefs_[0], **tolerance)
    np.testing.assert_allclose(mine.validation_curve_, dense.validation_curve_, **tolerance)
    answers = MLPClassifier.predict_proba if kind is MLPClassifier else MLPRegressor.predict
    for form in (sparse.csr_matrix, sparse.csc_array, sparse.coo_array):
        np.testing.assert_allclose(answers(mine, form(rows)), answers(mine, rows.toarray()), **tolerance)


def test_partial_fit_and_warm_start_take_sparse_rows():
    rows, targets = sparse.random(60, 400, 0.02, format="csr", rng=np.random.default_rng(0)), np.arange(60) % 3
    models = []
    for x in (rows, rows.toarray()):
        model = MLPClassifier(**QUICK).partial_fit(x[:30], targets[:30], classes=[0, 1, 2]).partial_fit(x, targets)
        models.append(model.set_params(warm_start=True, max_iter=2).fit(x, targets))
    np.testing.assert_allclose(models[0].coefs_[0], models[1].coefs_[0], rtol=1e-6, atol=1e-8)


def test_sparse_numbers_beyond_float32_are_refused():
    rows = sparse.csr_matrix(np.diag([1e300, 1.0]))
    with pytest.raises(ValueError, match=r"X has numbers beyond the range of float32, up to 1e\+300: scale it"):
        MLPRegressor(dtype="float32").fit(rows, [0.0, 1.0])


def test_columns_keep_their_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ROWS, columns=list("abcd"))
    mine = MLPClassifier(**QUICK).fit(frame, CLASSES)
    assert mine.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="feature names should match"):
        mine.predict(frame.rename(columns={"a": "z"}))
    scaled = make_pipeline(StandardScaler(), MLPClassifier(**QUICK)).set_output(transform="pandas").fit(frame, CLASSES)
    assert scaled[-1].feature_names_in_.tolist() == ["a", "b", "c", "d"]


def test_weights_are_routed():
    weights = np.where(CLASSES == 2, 0.0, 1.0)
    with config_context(enable_metadata_routing=True):
        asked = MLPClassifier(**QUICK).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        result = cross_validate(asked, CENTRED, CLASSES, params={"sample_weight": weights}, return_estimator=True)
        assert not any((estimator.predict(CENTRED) == 2).any() for estimator in result["estimator"])
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipeline = make_pipeline(scaler, asked).fit(ROWS, CLASSES, sample_weight=weights)
        assert not (pipeline.predict(ROWS) == 2).any()


def test_weights_are_as_good_as_repeated_rows():
    rows, numbers = make_regression(40, 3, random_state=0)
    counts = np.arange(40) % 3
    settings = {"hidden_layer_sizes": (5,), "max_iter": 20, "random_state": 0, "alpha": 0.1}
    weighted = MLPRegressor(**settings, batch_size=40).fit(rows, numbers, sample_weight=counts)
    total = int(counts.sum())
    repeated = MLPRegressor(**settings, batch_size=total).fit(rows.repeat(counts, axis=0), numbers.repeat(counts))
    np.testing.assert_allclose(weighted.coefs_[0], repeated.coefs_[0], rtol=0, atol=1e-12)
    assert weighted.loss_ == pytest.approx(repeated.loss_, rel=1e-12)


def test_a_clone_has_the_parameters_and_nothing_learned():
    fitted = MLPRegressor(**QUICK, backend="numpy", dtype="float32", dropout=0.1).fit(CENTRED, CLASSES)
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    assert not hasattr(copy, "coefs_")


def test_verbose_prints_every_epoch_and_why_it_ended(capsys):
    mine = MLPClassifier(**QUICK | {"max_iter": 500}, verbose=True, tol=1e-2).fit(CENTRED, CLASSES)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Iteration 1, loss = {mine.loss_curve_[0]:.8f}"
    assert len(lines) == mine.n_iter_ + 1
    assert lines[-1].endswith("did not improve more than tol=0.010000 for 10 consecutive epochs. Stopping.")
    MLPClassifier(**QUICK, solver="lbfgs", verbose=True).fit(CENTRED, CLASSES)
    assert capsys.readouterr().out.startswith("Iteration 1, loss = ")


def test_multilabel_and_words():
    labels = np.stack([CLASSES == 0, CLASSES != 1], axis=1).astype(int)
    mine = MLPClassifier(**QUICK | {"max_iter": 100}).fit(CENTRED, labels)
    assert mine.predict(CENTRED).shape == mine.predict_proba(CENTRED).shape == (150, 2)
    assert mine.score(CENTRED, labels) > 0.9
    stored = io.BytesIO()
    joblib.dump(mine, stored)
    stored.seek(0)
    np.testing.assert_array_equal(joblib.load(stored).predict(CENTRED), mine.predict(CENTRED))
    from_sparse = MLPClassifier(**QUICK | {"max_iter": 100}).fit(CENTRED, sparse.csr_matrix(labels))
    np.testing.assert_array_equal(from_sparse.coefs_[0], mine.coefs_[0])
    words = np.array(["no", "yes"])[(CLASSES == 0).astype(int)]
    assert set(MLPClassifier(**QUICK).fit(CENTRED, words).predict(CENTRED)) == {"no", "yes"}


def test_scikit_learn_is_loaded_by_the_estimators_alone():
    code = (
        "import sys, xpnn.nn; assert 'sklearn' not in sys.modules; import xpnn.nn.estimator as estimator; "
        "estimator.MLPClassifier(max_iter=500, tol=1).fit([[0], [1]], [0, 1]); assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
