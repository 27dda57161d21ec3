"""scikit-learn's `MLPClassifier` and `MLPRegressor` on xpnn's training, with the same parameters and results.

>>> from xpnn.nn.estimator import MLPClassifier
>>> classifier = MLPClassifier(hidden_layer_sizes=(64,), random_state=0).fit(X, y)
>>> classifier.predict(X)
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

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


class _Skl2onnxFinder(MetaPathFinder):
    """Finder that registers the converters when skl2onnx is imported; importing it here would cost a second."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find skl2onnx, with a loader that registers the converters at its end."""
        spec = PathFinder.find_spec(fullname, path, target) if fullname == "skl2onnx" else None
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                _register()

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def _register() -> None:
    from .onnx_converter import register

    register()


if "skl2onnx" in sys.modules:
    _register()
else:
    sys.meta_path.insert(0, _Skl2onnxFinder())

__all__ = ["MLPClassifier", "MLPRegressor"]
