"""scikit-learn's `MLPClassifier` and `MLPRegressor` on xpnn's training, with the same parameters and results.

>>> from xpnn.nn.estimator import MLPClassifier
>>> classifier = MLPClassifier(hidden_layer_sizes=(64,), random_state=0).fit(X, y)
>>> classifier.predict(X)
"""

from ...backends import MissingDependency

try:
    import sklearn
except ImportError as error:
    raise MissingDependency('the estimators need scikit-learn 1.6 or newer: pip install "scikit-learn>=1.6"') from error
if tuple(int(part) for part in sklearn.__version__.split(".")[:2]) < (1, 6):
    raise MissingDependency(
        f'the estimators need scikit-learn 1.6 or newer, got {sklearn.__version__}: pip install "scikit-learn>=1.6"'
    )

from .classifier import MLPClassifier
from .regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
