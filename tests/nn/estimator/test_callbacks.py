"""Callbacks of ours, passed to `fit`, and of scikit-learn 1.9, set with `set_callbacks`."""

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xpnn import nn
from xpnn.backends import ConfigError
from xpnn.nn.estimator import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(60, 3))
Y = (X[:, 0] > X[:, 1]).astype(int)
SETTINGS = {"hidden_layer_sizes": (4,), "max_iter": 6, "random_state": 0}


class StopAfter(nn.Callback):
    def __init__(self, epochs):
        self.epochs, self.losses = epochs, []

    def on_epoch_end(self, run, result):
        self.losses.append(result.train_loss)
        if result.epoch == self.epochs:
            run.stop()


class TestOurs:
    def test_they_see_each_epoch_and_can_stop(self):
        callback = StopAfter(4)
        model = MLPClassifier(**SETTINGS, alpha=0).fit(X, Y, callbacks=[callback])
        assert model.n_iter_ == 4
        assert callback.losses == model.loss_curve_

    def test_through_a_search_over_pipelines(self):
        callback = StopAfter(2)
        model = make_pipeline(StandardScaler(), MLPClassifier(**SETTINGS))
        search = GridSearchCV(model, {"mlpclassifier__alpha": [0, 1]}, cv=2)
        search.fit(X, Y, mlpclassifier__callbacks=[callback])
        assert search.best_estimator_[-1].n_iter_ == 2
        assert len(callback.losses) == 2 * (2 * 2 + 1)  # epochs of each fit, and of the last

    def test_what_is_refused(self):
        with pytest.raises(ConfigError, match=r"callbacks must be a list of nn\.Callback"):
            MLPClassifier(**SETTINGS).fit(X, Y, callbacks=StopAfter(1))
        with pytest.raises(ValueError, match="callbacks needs a solver that takes steps"):
            MLPClassifier(**SETTINGS, solver="lbfgs").fit(X, Y, callbacks=[StopAfter(1)])


class Recorder:
    """Callback of scikit-learn that records what it is told, and stops the fit after some tasks."""

    def __init__(self, stop_after=None):
        self.stop_after, self.lines, self.scores = stop_after, [], []

    def setup(self, estimator, context):  # noqa: ARG002
        self.lines.append("setup")

    def teardown(self, estimator, context):  # noqa: ARG002
        self.lines.append("teardown")

    def on_fit_task_begin(self, estimator, context):  # noqa: ARG002
        self.lines.append(f"begin {context.task_name} {context.task_id}")

    def on_fit_task_end(self, estimator, context, *, X, y, metadata, fitted_estimator):  # noqa: ARG002, N803
        self.lines.append(f"end {context.task_name} {context.task_id}")
        if fitted_estimator is not None:
            self.scores.append(fitted_estimator.score(X, y, **(metadata or {})))
        return context.task_name == "epoch" and context.task_id + 1 == self.stop_after


def lines_of(tasks):
    inner = [line for k in range(tasks) for line in (f"begin epoch {k}", f"end epoch {k}")]
    return ["setup", "begin fit 0", *inner, "end fit 0", "teardown"]


class TestScikitLearns:
    @pytest.fixture(autouse=True)
    def package(self):
        return pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks from 1.9")

    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    @pytest.mark.parametrize(("estimator", "y"), [(MLPClassifier, Y), (MLPRegressor, X[:, :2])])
    def test_a_task_for_each_epoch(self, solver, estimator, y):
        recorder, weights = Recorder(), np.arange(60.0)
        model = estimator(**SETTINGS, solver=solver).set_callbacks(recorder).fit(X, y, sample_weight=weights)
        tasks = 6 + (solver == "lbfgs")
        assert recorder.lines == lines_of(tasks)
        expected = [estimator(**SETTINGS | {"max_iter": k}, solver=solver).fit(X, y, weights) for k in range(1, 7)]
        scores = [each.score(X, y, weights) for each in expected]
        np.testing.assert_allclose(recorder.scores, [*scores, scores[-1]], rtol=1e-12)
        assert model.n_iter_ == 6

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
    def test_they_can_stop(self, solver):
        recorder = Recorder(stop_after=3)
        model = MLPClassifier(**SETTINGS, solver=solver).set_callbacks(recorder).fit(X, Y)
        assert recorder.lines == lines_of(3)
        assert model.n_iter_ == 3

    def test_early_stopping_ends_with_the_best_weights(self):
        recorder = Recorder()
        options = {**SETTINGS, "max_iter": 200, "early_stopping": True, "learning_rate_init": 0.1}
        model = MLPClassifier(**options).set_callbacks(recorder).fit(X, Y)
        assert recorder.lines == lines_of(model.n_iter_)
        assert recorder.scores[-1] == model.score(X, Y)

    def test_nothing_changes_without_them_or_by_them(self):
        model = MLPClassifier(**SETTINGS)
        with_callbacks = clone(model).set_callbacks(Recorder()).fit(X, Y)
        for one, other in zip(with_callbacks.coefs_, model.fit(X, Y).coefs_, strict=True):
            np.testing.assert_array_equal(one, other)
        assert model.get_params() == with_callbacks.get_params()

    def test_partial_fit_has_no_tasks(self):
        recorder = Recorder()
        MLPClassifier(**SETTINGS).set_callbacks(recorder).partial_fit(X, Y, classes=[0, 1])
        assert recorder.lines == []

    def test_a_scoring_monitor_in_a_search_over_pipelines(self, package):
        monitor = package.ScoringMonitor(scoring="accuracy")
        network = MLPClassifier(**SETTINGS).set_callbacks(monitor)
        search = GridSearchCV(make_pipeline(StandardScaler(), network), {"mlpclassifier__alpha": [0, 1]}, cv=2)
        search.fit(X, Y)
        rows = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
        assert len(rows) == 5 * 6
        of_the_last = [row for row in rows if len(row["task_id_path"]) == 4]  # search, refit, network, epoch
        assert [row["task_id"] for row in of_the_last] == list(range(6))
        assert of_the_last[-1]["accuracy"] == search.score(X, Y)

    def test_a_progress_bar_for_all_of_a_search(self, package, capsys):
        pytest.importorskip("rich")
        network = MLPClassifier(**SETTINGS)
        search = GridSearchCV(make_pipeline(StandardScaler(), network), {"mlpclassifier__alpha": [0, 1]}, cv=2)
        search.set_callbacks(package.ProgressBar(max_propagation_depth=None)).fit(X, Y)
        assert capsys.readouterr().out.count("MLPClassifier - fit") >= 5
