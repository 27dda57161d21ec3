"""scikit-learn's own tests of its multi-layer perceptrons, as installed, run on our classes."""

from importlib.util import find_spec, module_from_spec
from types import SimpleNamespace

import pytest

pytest.importorskip("sklearn", minversion="1.6")

import sklearn.neural_network
from xpnn.nn.estimator import MLPClassifier, MLPRegressor

# Private attributes that they read (and one test assigns, to no effect), as functions of ours.
PRIVATE = {
    "_no_improvement_count": lambda estimator: estimator._record.no_improvement_count,
    "_optimizer": lambda estimator: SimpleNamespace(
        learning_rate=estimator.learning_rate_init * estimator._record.rate_factor
    ),
}
FAILING = {"test_gradient": "it calls _loss_grad_lbfgs; tests/backends check the gradients of every loss"}

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def their_tests():
    """Return scikit-learn's test functions by name; the estimators that their module imports are ours."""
    spec = find_spec("sklearn.neural_network.tests.test_mlp")
    module = module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for ours in (MLPClassifier, MLPRegressor):
            patch.setattr(sklearn.neural_network, ours.__name__, ours)
        spec.loader.exec_module(module)
    functions = {name: function for name, function in vars(module).items() if name.startswith("test_")}
    for name, reason in FAILING.items():
        pytest.mark.xfail(raises=AttributeError, reason=reason, strict=True)(functions[name])
    return functions


globals().update(their_tests())


@pytest.fixture
def global_random_seed():
    return 42  # scikit-learn's default


@pytest.fixture(autouse=True)
def private_attributes(monkeypatch):
    for ours in (MLPClassifier, MLPRegressor):
        for name, attribute in PRIVATE.items():
            monkeypatch.setattr(ours, name, property(attribute, lambda *_: None), raising=False)
