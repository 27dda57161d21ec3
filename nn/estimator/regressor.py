"""`MLPRegressor` with the interface of scikit-learn's."""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from sklearn.base import RegressorMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from ...backends.override import override
from ..network.outputs import OUTPUTS
from .base import BaseMLP, has_partial_fit
from .parameters import CONSTRAINTS

PARAMETERS = {"quantile": "quantile", "huber": "delta"}  # loss -> parameter of the estimator that holds its number


@dataclass(eq=False, repr=False)
class _Loss:
    loss: str = "squared_error"


@dataclass(eq=False, repr=False)
class MLPRegressor(RegressorMixin, BaseMLP, _Loss):  # the last one's parameter comes first, as in scikit-learn
    """Multi-layer perceptron regressor with the interface of scikit-learn's.

    Args:
        loss: "squared_error" (half of it) predicts the mean, "absolute_error" the median, "huber" the mean with
            less influence of outliers, "quantile" (pinball loss) the quantile of level `quantile`, and "poisson" (half
            the deviance) the mean of targets of at least 0, as the exponential of the last layer.
        quantile: level of the quantile, in (0, 1); for the loss "quantile".
        delta: error from which the loss is linear, in units of `y`, which is not standardized here; for the loss
            "huber". `xpnn train --loss huber:DELTA` standardizes the labels: there it is in standard deviations.

    All other parameters and attributes are those of `MLPClassifier` except for classes. The score is R^2, also the
    validation score of early stopping for "squared_error" and "poisson"; for the other losses that is minus the
    validation loss, since the best quantile or median need not have the best R^2.
    """

    quantile: float = field(default=0.5, kw_only=True)
    delta: float = field(default=1.0, kw_only=True)

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CONSTRAINTS, "loss": [StrOptions({name for name, row in OUTPUTS.items() if not row.has_accuracy})],
        "quantile": [Interval(Real, 0, 1, closed="neither")], "delta": [Interval(Real, 0, None, closed="neither")],
    }  # fmt: skip

    @override
    def _validate_params(self) -> None:
        loss, colon, number = str(self.loss).partition(":")
        if colon and loss in PARAMETERS:
            raise ValueError(
                f"loss must be without its number, got {self.loss!r:.80}: pass it as a parameter, "
                f'loss="{loss}", {PARAMETERS[loss]}={number:.40}'
            )
        super()._validate_params()

    @property
    @override
    def _loss_of_columns(self) -> str:
        return f"{self.loss}:{getattr(self, PARAMETERS[self.loss])}" if self.loss in PARAMETERS else self.loss

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

    def _labels(self, y: Any, *, continues: bool, is_validation: bool = False) -> npt.NDArray[np.float64]:  # noqa: ARG002
        numbers = np.asarray(y.toarray() if hasattr(y, "toarray") else y)
        if numbers.dtype.kind not in "buif":
            raise ValueError(f"y must be numbers, got dtype {numbers.dtype}: convert it by y.astype(float)")
        labels = numbers.reshape(len(numbers), -1).astype(np.float64)  # (samples, outputs)
        OUTPUTS[self.loss].check(labels, labels.shape[1])
        return labels

    def predict(self, X: Any) -> npt.NDArray[Any]:  # noqa: N803
        """Predict targets, (samples,), or (samples, outputs) for several outputs."""
        outputs = self._outputs(X)
        if self.out_activation_ == "exp":
            outputs = np.exp(outputs)
        return outputs.ravel() if outputs.shape[1] == 1 else outputs
