"""`MLPRegressor`: scikit-learn's, on xpnn's training."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import validate_data

from .base import BaseMLP, has_partial_fit
from .constraints import CONSTRAINTS


class MLPRegressor(RegressorMixin, BaseMLP):
    """A multi-layer perceptron that gives numbers: scikit-learn's estimator on xpnn's training, with the squared error.

    Args:
        loss: "squared_error", half the squared distance.

    All other parameters and attributes are those of `MLPClassifier`, classes left out; the score is R^2.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {**CONSTRAINTS, "loss": [StrOptions({"squared_error"})]}

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        backend: str = "auto",
        dtype: str | None = None,
        dropout: float = 0.0,
    ) -> None:
        self.loss = loss
        super().__init__(
            hidden_layer_sizes, activation, solver=solver, alpha=alpha, batch_size=batch_size,
            learning_rate=learning_rate, learning_rate_init=learning_rate_init, power_t=power_t,
            max_iter=max_iter, shuffle=shuffle, random_state=random_state, tol=tol, verbose=verbose,
            warm_start=warm_start, momentum=momentum, nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping, validation_fraction=validation_fraction,
            beta_1=beta_1, beta_2=beta_2, epsilon=epsilon, n_iter_no_change=n_iter_no_change, max_fun=max_fun,
            backend=backend, dtype=dtype, dropout=dropout,
        )  # fmt: skip

    def _loss_share(self) -> float:
        """`loss_` has the mean over the outputs, though the gradient is that of their sum, as in scikit-learn."""
        return 1 / self.n_outputs_

    @available_if(has_partial_fit)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:  # noqa: N803
        """Go on with one epoch over these rows.

        Args:
            X: (samples, features).
            y: (samples,) or (samples, outputs).
            sample_weight: how much each row counts, (samples,).
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def _read(self, X: Any, y: Any, *, is_first: bool, incremental: bool) -> tuple[Any, npt.NDArray[Any]]:  # noqa: ARG002, N803
        rows, y = validate_data(
            self, X, y, accept_sparse=["csr", "csc"], multi_output=True, y_numeric=True,
            dtype=(np.float64, np.float32), reset=is_first,
        )  # fmt: skip
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        y = np.asarray(y.toarray() if hasattr(y, "toarray") else y, dtype=np.float64)
        return rows, y.reshape(len(y), -1)

    def _network_of(self, labels: npt.NDArray[Any]) -> tuple[int, str, str]:
        return labels.shape[1], "identity", "squared_error"

    def _score_outputs(
        self, outputs: npt.NDArray[Any], labels: npt.NDArray[Any], weights: npt.NDArray[Any] | None
    ) -> float:
        if not np.isfinite(outputs).all():
            return float("nan")
        return float(r2_score(labels, outputs, sample_weight=weights))

    def predict(self, X: Any) -> npt.NDArray[Any]:  # noqa: N803
        """Return the numbers that the network gives, (samples,), or for several outputs (samples, outputs)."""
        outputs = self._outputs(X)
        return outputs.ravel() if outputs.shape[1] == 1 else outputs
