"""Base class of the estimators: fitting and prediction."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from copy import copy, deepcopy
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin, _fit_context
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from ...backends import Backend, BackendUnavailable, ConfigError, DivergenceError, JobOutline, Layer, get_backend
from ...backends.sparse_rows import is_sparse
from ...backends.threads import at_most_threads
from ..datasets.dataset import Split
from ..files.text import is_plain
from ..inputs.arguments import are_instances
from ..inputs.inputs import Inputs, Numbers
from ..inputs.table import Column, Table
from ..network.evaluation import check_weights
from ..network.mlp import MLP
from ..training.run import Callback
from .class_weights import Weights, weights_of_rows
from .draws import Arrays, starting_weights
from .fit import Fit, Record, SharingMLP
from .fit_tasks import CallbackSupportMixin, FitTasks
from .lbfgs import fit_with_lbfgs
from .parameters import ACTIVATION_ROWS, CONSTRAINTS, STOCHASTIC_SOLVERS, Parameters
from .rows import rows_in
from .stochastic import fit_with_steps, optimizer_of

LOGISTIC = "logistic"  # scikit-learn's name of the output function; it calls the others as we do
Validation = tuple[Any, Any, Any]  # rows, targets, row weights: as they came to `fit`, or None each
NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)


def has_partial_fit(estimator: BaseMLP) -> bool:
    """Return whether the solver is stochastic; otherwise raise scikit-learn's error."""
    if estimator.solver not in STOCHASTIC_SOLVERS:
        raise AttributeError(
            f"partial_fit is only available for stochastic optimizers. {estimator.solver} is not stochastic."
        )
    return True


class BaseMLP(CallbackSupportMixin, BaseEstimator, Parameters):
    """Base class of the estimators; `coefs_` and `intercepts_` are their state and may be assigned."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = CONSTRAINTS
    coefs_: Arrays
    intercepts_: Arrays
    n_iter_: int
    t_: int
    loss_: float
    loss_curve_: list[float]
    best_loss_: float | None
    validation_scores_: list[float] | None
    best_validation_score_: float | None
    validation_curve_: list[float] | None
    _record: Record

    # Differences between a classifier and a regressor

    @property
    @abstractmethod
    def _loss_of_columns(self) -> str:
        """The network's loss for labels (samples, outputs)."""

    @abstractmethod
    def _labels(self, y: Any, *, continues: bool, is_validation: bool = False) -> npt.NDArray[Any]:
        """Check targets and convert them to labels of the loss, (samples,) or (samples, outputs)."""

    def _class_weights(self, labels: npt.NDArray[Any]) -> Weights | None:  # noqa: ARG002
        """Return the class weights for training rows, see `class_weights`; None without."""
        return None

    # Training

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,  # noqa: N803
        y_val: Any = None,
        sample_weight_val: Any = None,
        callbacks: Sequence[Callback] = (),
    ) -> BaseMLP:
        """Fit from new initial weights, or from the current ones with `warm_start`.

        A failed fit leaves the estimator as it was.

        Args:
            X: (samples, features), dense or sparse.
            y: (samples,) or (samples, outputs).
            sample_weight: row weights, (samples,), finite and at least 0.
            X_val: validation rows, (rows, features), whose loss after each epoch is in `validation_curve_`. With
                `early_stopping` they take the place of the rows that it holds out. In a pipeline that transforms them
                as `X`: `Pipeline(..., transform_input=["X_val"])`.
            y_val: their targets, (rows,) or (rows, outputs).
            sample_weight_val: their weights, (rows,).
            callbacks: callbacks of the training loop, `nn.Callback`; not for `lbfgs`, which has another loop. Those of
                scikit-learn 1.9 are set with `set_callbacks`, for any solver.
        """
        return self._fit(X, y, sample_weight, (X_val, y_val, sample_weight_val), callbacks)

    def _fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any,
        validation: Validation | None,
        callbacks: Sequence[Callback] = (),
    ) -> BaseMLP:
        """See `fit`; `partial_fit` has no validation."""
        is_partial = validation is None
        if is_partial and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        if not are_instances(callbacks, Callback):
            raise ConfigError(
                f"callbacks must be a list of nn.Callback, got {callbacks!r:.80}: put one into a list, and pass "
                "scikit-learn's to set_callbacks"
            )
        for option, given in (("dropout", self.dropout), ("callbacks", callbacks)):
            if self.solver == "lbfgs" and given:
                raise ValueError(
                    f"{option} needs a solver that takes steps, and lbfgs has none: leave it out, or set another solver"
                )
        before = self.__dict__.copy()
        try:
            with at_most_threads(self.n_threads):
                data = {"X": X, "y": y, "metadata": None if sample_weight is None else {"sample_weight": sample_weight}}
                self._train(self._begin(X, y, sample_weight, validation), data, callbacks)
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        return self

    def _train(self, fit: Fit, data: dict[str, Any], callbacks: Sequence[Callback]) -> None:
        """Carry out a fit, and set the fitted attributes; scikit-learn's callbacks are told of `data`."""
        fit.callbacks = callbacks
        if hasattr(self, "_skl_callbacks") and not fit.is_partial:
            most = int(self.max_iter) + (self.solver == "lbfgs")  # whose last task finds nothing to do
            fit.tasks = FitTasks(self, data, most, lambda: self._fitted_so_far(fit))
        solve = fit_with_lbfgs if self.solver == "lbfgs" else fit_with_steps
        try:
            solve(fit)
        except DivergenceError as error:
            raise ValueError(f"{NOT_FINITE} {error}") from error
        self._take_over(fit)
        if fit.tasks is not None:
            fit.tasks.close()

    def _fitted_so_far(self, fit: Fit) -> dict[str, Any]:
        """Return the attributes that the estimator would have if the fit ended here."""
        estimator = copy(self)
        estimator._take_over(replace(fit, record=deepcopy(fit.record)))
        return estimator.__dict__

    def _begin(self, X: Any, y: Any, sample_weight: Any, validation: Validation | None) -> Fit:  # noqa: N803
        """Check rows and targets; return the fit with its initial weights and record."""
        hidden, is_partial = hidden_units(self.hidden_layer_sizes), validation is None
        continues = bool(self.warm_start or is_partial)
        is_first = not (continues and hasattr(self, "coefs_"))
        is_new = is_first or not hasattr(self, "_record")  # or has only coefs_ that were assigned
        x, y = self._validated(X, y, reset=is_new)
        labels = self._labels(y, continues=continues)
        of_classes = self._class_weights(labels)
        weights = row_weights(sample_weight, x, labels, of_classes)
        random_state = check_random_state(self.random_state)
        if is_new:
            record = Record(np.dtype(self.dtype or x.dtype))
        else:  # `fit` writes to it after each epoch, and a later one may fail; `partial_fit` has but one
            record = self._record if is_partial else deepcopy(self._record)
            record.dtype = np.dtype(self.dtype or record.dtype)
        rows = Split(rows_in(x, record.dtype), labels, weights)
        held = None if validation is None else self._validation_rows(*validation, of_classes, record.dtype)
        num_outputs = len(self.classes_) if labels.ndim == 1 else labels.shape[1]
        sizes = [x.shape[1], *hidden, num_outputs]
        if not is_first:
            self._check_sizes(sizes)
        activation = ACTIVATION_ROWS[self.activation]
        loss = "softmax_cross_entropy" if labels.ndim == 1 else self._loss_of_columns
        job = JobOutline(
            sizes=tuple(sizes),
            rows=len(rows),
            epochs=1 if is_partial else int(self.max_iter),
            optimizer=optimizer_of(self),
            activation=activation,
            loss=loss,
            has_sparse_rows=is_sparse(rows.images),
            uses_lbfgs=self.solver == "lbfgs",
        )
        is_series = is_partial and self.backend == "auto"
        backend = get_backend(record.series_backend if is_series and record.series_backend else self.backend, job=job)
        record.series_backend = backend.name if is_series else None
        # Rounding in float32 would keep the line search from its end.
        dtype = "float64" if self.solver == "lbfgs" else record.dtype.name
        parameters = (
            starting_weights(random_state, sizes, activation=self.activation, dtype=record.dtype)
            if is_first
            else zip(self.coefs_, self.intercepts_, strict=True)
        )
        net = SharingMLP(sizes, activation=activation, loss=loss, backend=backend, dtype=dtype, parameters=parameters)
        return Fit(self, net, rows, held, random_state, is_partial, record)

    def _validated(self, X: Any, y: Any, *, reset: bool) -> tuple[Any, Any]:  # noqa: N803
        """Check rows and targets by scikit-learn's rules."""
        x, y = validate_data(
            self, X, y, accept_sparse=["csr", "csc"], multi_output=True, y_numeric=isinstance(self, RegressorMixin),
            dtype=(np.float64, np.float32), reset=reset,
        )  # fmt: skip
        return x, column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y

    def _validation_rows(
        self, rows: Any, targets: Any, weights: Any, of_classes: Weights | None, dtype: np.dtype[Any]
    ) -> Split | None:
        """Return the validation rows that were passed to `fit`, weighted as the training rows; None without."""
        if rows is None and targets is None and weights is None:
            return None
        if rows is None or targets is None:
            raise ValueError(f"{'X_val' if rows is None else 'y_val'} is missing: pass X_val and y_val together")
        x, y = self._validated(rows, targets, reset=False)
        labels = self._labels(y, continues=True, is_validation=True)
        return Split(rows_in(x, dtype), labels, row_weights(weights, x, labels, of_classes))

    def _check_sizes(self, sizes: list[int]) -> None:
        """Check that a network of these sizes can start from the coefficients of the last fit."""
        *hidden, outputs = (np.shape(intercept)[0] for intercept in self.intercepts_)
        if hidden != sizes[1:-1]:
            raise ValueError(
                f"hidden_layer_sizes must stay {tuple(hidden)} to continue from the last fit, got "
                f"{self.hidden_layer_sizes!r}: set it back, or fit with warm_start=False"
            )
        if outputs != sizes[-1]:
            raise ValueError(
                f"y must have as many columns as in the last fit, {outputs}, got {sizes[-1]}: pass the same targets, "
                "or fit with warm_start=False"
            )

    def _take_over(self, fit: Fit) -> None:
        """Set all fitted attributes from the network and the record."""
        net, record = fit.net, fit.record
        parameters, layers = fit.trained or net.parameters(), range(len(net.layers))
        if not (fit.is_checked or all(np.isfinite(array).all() for array in parameters.values())):
            raise ValueError(NOT_FINITE)
        self.coefs_ = [parameters[f"layers.{k}.weight"].astype(record.dtype, copy=False) for k in layers]
        self.intercepts_ = [parameters[f"layers.{k}.bias"].astype(record.dtype, copy=False) for k in layers]
        self.n_layers_, self.n_outputs_ = len(net.sizes), net.sizes[-1]
        self.out_activation_ = LOGISTIC if net.outputs.function == "sigmoid" else net.outputs.function
        self.backend_, self._record = net.backend.name, record
        self.n_iter_, self.t_, self.loss_ = record.n_iter, record.t, record.loss
        self.validation_curve_ = record.validation_curve or None
        if self.solver == "lbfgs":
            return
        self.loss_curve_, self.best_loss_ = record.loss_curve, record.best_loss
        self.validation_scores_, self.best_validation_score_ = record.validation_scores, record.best_validation_score
        if self.early_stopping and record.best_loss == np.inf:
            self.best_loss_ = None
        if not (self.early_stopping or record.validation_scores):
            self.validation_scores_ = self.best_validation_score_ = None

    # Predictions

    def _outputs(self, X: Any) -> npt.NDArray[Any]:  # noqa: N803
        """Return the outputs before the output activation, (samples, outputs)."""
        check_is_fitted(self, "coefs_")
        with at_most_threads(self.n_threads):
            rows = X if self._are_valid(X) else validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
            backend, dtype = get_backend(self.backend_), self._record.dtype
            put = np.ascontiguousarray if backend.is_on_host else backend.put  # nothing writes to them
            layers = [
                Layer(put(np.asarray(coef, dtype)), put(np.asarray(intercept, dtype)), ACTIVATION_ROWS[self.activation])
                for coef, intercept in zip(self.coefs_, self.intercepts_, strict=True)
            ]
            layers[-1].activation = "identity"
            return backend.logits(layers, rows_in(rows, dtype), 1.0)

    def _are_valid(self, rows: Any) -> bool:
        """Return whether rows are an array that `validate_data`, which takes 0.1 ms, would return as it is."""
        return (
            type(rows) is np.ndarray
            and rows.dtype in (np.float64, np.float32)
            and rows.ndim == 2
            and len(rows) > 0
            and rows.shape[1] == getattr(self, "n_features_in_", None)
            and not hasattr(self, "feature_names_in_")
            and bool(np.isfinite(rows).all())
        )

    # As a network

    def to_mlp(self, *, backend: str | Backend | None = None) -> MLP:
        """Return the fitted estimator as an `nn.MLP` of the same answers, for `nn.save` and the exports.

        Its rows are the columns of a table by the names in `feature_names_in_`, or rows of numbers if there are none.
        Two classes have an output each, of which the first is 0: `softmax([0, z])` is `[1 - sigmoid(z), sigmoid(z)]`.

        Args:
            backend: a name for `get_backend`, or a backend; None for that of the last fit.

        Raises:
            NotFittedError: the estimator is not fitted.
            ConfigError: names of columns are not different texts without control characters.
        """
        check_is_fitted(self, "coefs_")
        loss, names, weight, bias = self._last_layer()
        coefs, intercepts = [*self.coefs_[:-1], weight], [*self.intercepts_[:-1], bias]
        net = MLP(
            [self.n_features_in_, *(len(intercept) for intercept in intercepts)],
            activation=ACTIVATION_ROWS[self.activation],
            loss=loss,
            backend=self.backend_ if backend is None else backend,
            dtype=self._record.dtype.name,
            parameters=zip(coefs, intercepts, strict=True),
        )
        net.inputs = replace(self._network_inputs(), class_names=names)
        return net

    def _last_layer(self) -> tuple[str, tuple[str, ...], npt.NDArray[Any], npt.NDArray[Any]]:
        """Return the network's loss, its class names, and weight and bias of its last layer."""
        return self._loss_of_columns, (), self.coefs_[-1], self.intercepts_[-1]

    def _network_inputs(self) -> Inputs:
        """Return the meaning of the rows that the estimator was fitted on."""
        names = [str(name) for name in getattr(self, "feature_names_in_", ())]
        if not names:
            return Numbers(count=self.n_features_in_)
        if len(set(names)) < len(names) or not all(map(is_plain, names)):
            raise ConfigError(
                f"columns must have different names without control characters, got {names!r:.200}: rename them and "
                "fit again"
            )
        return Table(columns=tuple(map(Column, names)))

    # scikit-learn's conventions

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if not hasattr(self, "backend_"):
            return
        try:
            get_backend(self.backend_)
        except (BackendUnavailable, ValueError) as error:  # a backend of another package has no name without it
            warnings.warn(
                f"the estimator was trained on the backend {self.backend_}, which is unavailable, and continues on "
                f"numpy: {error}",
                stacklevel=2,
            )
            self.backend_, self._record.series_backend = "numpy", None


def row_weights(
    sample_weight: Any, x: Any, labels: npt.NDArray[Any], of_classes: Weights | None
) -> npt.NDArray[np.float64] | None:
    """Return the products of row weights and class weights, (samples,); None for 1 each.

    Raises:
        ValueError: a weight is negative or not finite, or all are 0.
    """
    weights = None if sample_weight is None else _check_sample_weight(sample_weight, x).astype(np.float64)
    if of_classes is not None:
        weights = weights_of_rows(of_classes, labels) * (1.0 if weights is None else weights)
    if weights is not None:
        check_weights(weights, len(labels))
        if not weights.any():
            raise ValueError("all weights of rows are 0: give some rows a positive weight")
    return weights


def hidden_units(hidden_layer_sizes: Any) -> list[int]:
    """Return the units of each hidden layer.

    Raises:
        ValueError: a number is not a positive integer.
    """
    units = list(hidden_layer_sizes) if hasattr(hidden_layer_sizes, "__iter__") else [hidden_layer_sizes]
    if any(int(number) != number or number <= 0 for number in units):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {units}: whole numbers, one a hidden layer.")
    return [int(number) for number in units]
