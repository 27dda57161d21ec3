"""`MLPRegressor` with the interface of scikit-learn's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from sklearn.base import RegressorMixin, _fit_context
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from .base import BaseMLP, has_partial_fit
from .parameters import CONSTRAINTS


@dataclass(eq=False, repr=False)
class _Loss:
    loss: str = "squared_error"


@dataclass(eq=False, repr=False)
class MLPRegressor(RegressorMixin, BaseMLP, _Loss):  # the last one's parameter comes first, as in scikit-learn
    """Multi-layer perceptron regressor with the interface of scikit-learn's, for the squared error.

    Args:
        loss: "squared_error", half the squared distance.

    All other parameters and attributes are those of `MLPClassifier` except for classes; the score is R^2.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {**CONSTRAINTS, "loss": [StrOptions({"squared_error"})]}
    _loss_of_columns: ClassVar[str] = "squared_error"

    @available_if(has_partial_fit)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:  # noqa: N803
        """Train one epoch on these rows.

        Args:
            X: (samples, features).
            y: (samples,) or (samples, outputs).
            sample_weight: row weights, (samples,).
        """
        return self._fit(X, y, sample_weight, None)

    def _labels(self, y: Any, *, goes_on: bool, is_validation: bool = False) -> npt.NDArray[np.float64]:  # noqa: ARG002
        numbers = np.asarray(y.toarray() if hasattr(y, "toarray") else y)
        if numbers.dtype.kind not in "buif":
            raise ValueError(f"y must be numbers, got dtype {numbers.dtype}: convert it, with y.astype(float) say")
        return numbers.reshape(len(numbers), -1).astype(np.float64)

    def predict(self, X: Any) -> npt.NDArray[Any]:  # noqa: N803
        """Predict targets, (samples,), or (samples, outputs) for several outputs."""
        outputs = self._outputs(X)
        return outputs.ravel() if outputs.shape[1] == 1 else outputs
