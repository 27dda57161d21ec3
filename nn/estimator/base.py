"""What the two estimators have in common: parameters to training, and the network to predictions."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from ...backends import BackendUnavailable, DivergenceError, JobOutline, Layer, get_backend
from ..datasets.dataset import Split
from ..network.mlp import MLP
from ..training.checkpoint import OptimizerState
from .constraints import ACTIVATION_ROWS, CONSTRAINTS, STOCHASTIC_SOLVERS
from .dense_rows import dense_rows, dense_tiles
from .draws import Arrays, starting_weights
from .lbfgs import fit_with_lbfgs
from .learning_rates import LearningRate
from .training_solvers import fit_with_steps, optimizer_of

NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)


def has_partial_fit(estimator: BaseMLP) -> bool:
    """Return whether the solver takes steps on batches; the reason if not is scikit-learn's."""
    if estimator.solver not in STOCHASTIC_SOLVERS:
        raise AttributeError(
            f"partial_fit is only available for stochastic optimizers. {estimator.solver} is not stochastic."
        )
    return True


class BaseMLP(BaseEstimator):
    """Base of the estimators; `coefs_` and `intercepts_` are what they know, and may be assigned."""

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
    _best: dict[str, npt.NDArray[Any]]
    _no_improvement_count: int
    _optimizer_state: OptimizerState
    _rate: LearningRate

    def __init__(
        self,
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
        self.hidden_layer_sizes, self.activation, self.solver = hidden_layer_sizes, activation, solver
        self.alpha, self.batch_size, self.max_iter, self.shuffle = alpha, batch_size, max_iter, shuffle
        self.learning_rate, self.learning_rate_init, self.power_t = learning_rate, learning_rate_init, power_t
        self.random_state, self.tol, self.verbose, self.warm_start = random_state, tol, verbose, warm_start
        self.momentum, self.nesterovs_momentum = momentum, nesterovs_momentum
        self.early_stopping, self.validation_fraction = early_stopping, validation_fraction
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        self.n_iter_no_change, self.max_fun = n_iter_no_change, max_fun
        self.backend, self.dtype, self.dropout = backend, dtype, dropout

    # What a classifier and a regressor do differently

    @abstractmethod
    def _read(self, X: Any, y: Any, *, is_first: bool, incremental: bool) -> tuple[Any, npt.NDArray[Any]]:  # noqa: N803
        """Check rows and targets; return the rows (samples, features) and the labels as the network's loss has them."""

    @abstractmethod
    def _network_of(self, labels: npt.NDArray[Any]) -> tuple[int, str, str]:
        """Return the number of outputs, their activation in scikit-learn's words, and the network's loss."""

    @abstractmethod
    def _score_outputs(
        self, outputs: npt.NDArray[Any], labels: npt.NDArray[Any], weights: npt.NDArray[Any] | None
    ) -> float:
        """Return what `score` gives for labels whose network outputs are (samples, outputs)."""

    def _loss_share(self) -> float:
        """Return what the network's loss of a row is multiplied by in `loss_`."""
        return 1.0

    # Training

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> BaseMLP:  # noqa: N803
        """Train on rows from new starting weights, or, with `warm_start`, from the present ones.

        Args:
            X: (samples, features), dense or sparse.
            y: (samples,) or (samples, outputs).
            sample_weight: how much each row counts, (samples,).
        """
        return self._fit(X, y, sample_weight, incremental=False)

    def _fit(self, X: Any, y: Any, sample_weight: Any, *, incremental: bool) -> BaseMLP:  # noqa: N803
        hidden = hidden_units(self.hidden_layer_sizes)
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        if self.solver == "lbfgs" and self.dropout:
            raise ValueError(
                f"dropout needs a solver that takes steps, and lbfgs has none: set dropout=0, got {self.dropout}"
            )
        is_first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        is_new = is_first or not hasattr(self, "_computed_in")  # or has only coefs_ that were assigned
        read, labels = self._read(X, y, is_first=is_new, incremental=incremental)
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, read).astype(np.float64)
        random_state = check_random_state(self.random_state)
        self.n_outputs_, self.out_activation_, self._loss = self._network_of(labels)
        sizes = [read.shape[1], *hidden, self.n_outputs_]
        if is_new:
            self._computed_in = np.dtype(self.dtype or read.dtype)
            self.n_iter_, self.t_, self.n_layers_ = 0, 0, len(sizes)
        rows = Split(dense_rows(read, self._computed_in), labels, weights)
        net = self._network(rows, sizes, epochs=1 if incremental else int(self.max_iter))
        if is_first:
            self.coefs_, self.intercepts_ = starting_weights(
                random_state, sizes, activation=self.activation, dtype=self._computed_in
            )
        self._hand_over(net)
        if self.solver in STOCHASTIC_SOLVERS and (is_new or not hasattr(self, "loss_curve_")):
            self._begin_curves()
        try:
            if self.solver == "lbfgs":
                fit_with_lbfgs(self, net, rows)
            else:
                fit_with_steps(self, net, rows, random_state, incremental=incremental)
        except DivergenceError as error:
            raise ValueError(f"{NOT_FINITE} {error}") from error
        self._take_over(net)
        return self

    def _begin_curves(self) -> None:
        """Forget how an earlier training went."""
        self.loss_curve_, self._no_improvement_count = [], 0
        self.best_loss_, self.validation_scores_, self.best_validation_score_ = np.inf, None, None
        if self.early_stopping:
            self.best_loss_, self.validation_scores_, self.best_validation_score_ = None, [], -np.inf
        self.__dict__.pop("_best", None)

    def _network(self, rows: Split, sizes: list[int], *, epochs: int) -> MLP:
        """Return a network on the backend that is to train it; its weights are still to come."""
        # Rounding in float32 would keep the line search from its end.
        dtype = "float64" if self.solver == "lbfgs" else self._computed_in.name
        activation = ACTIVATION_ROWS[self.activation]
        job = JobOutline(
            sizes=tuple(sizes),
            rows=len(rows),
            epochs=epochs,
            optimizer=optimizer_of(self),
            activation=activation,
            loss=self._loss,
            needs_generic_plan=self.dropout != 0 or self.solver == "lbfgs",
        )
        backend = get_backend(self.backend, job=job)
        self.backend_ = backend.name
        return MLP(sizes, activation=activation, loss=self._loss, backend=backend, dtype=dtype)

    def _hand_over(self, net: MLP) -> None:
        """Give a network the present coefficients."""
        named = {f"layers.{k}.weight": np.asarray(array) for k, array in enumerate(self.coefs_)}
        net.load_parameters(named | {f"layers.{k}.bias": np.asarray(array) for k, array in enumerate(self.intercepts_)})

    def _take_over(self, net: MLP) -> None:
        """Keep the parameters of a network."""
        parameters = net.parameters()
        if not all(np.isfinite(array).all() for array in parameters.values()):
            raise ValueError(NOT_FINITE)
        layers, dtype = range(self.n_layers_ - 1), self._computed_in
        self.coefs_ = [parameters[f"layers.{k}.weight"].astype(dtype, copy=False) for k in layers]
        self.intercepts_ = [parameters[f"layers.{k}.bias"].astype(dtype, copy=False) for k in layers]

    # Predictions

    def _outputs(self, X: Any) -> npt.NDArray[Any]:  # noqa: N803
        """Return the last layer's outputs, before its activation, (samples, outputs)."""
        check_is_fitted(self)
        rows = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        backend, last = get_backend(self.backend_), len(self.coefs_) - 1
        layers = [
            Layer(
                backend.put(np.asarray(coef, dtype=self._computed_in)),
                backend.put(np.asarray(intercept, dtype=self._computed_in)),
                "identity" if k == last else ACTIVATION_ROWS[self.activation],
            )
            for k, (coef, intercept) in enumerate(zip(self.coefs_, self.intercepts_, strict=True))
        ]
        return np.concatenate([backend.logits(layers, tile, 1.0) for tile in dense_tiles(rows, self._computed_in)])

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
                f"the estimator was trained on the backend {self.backend_}, which cannot be had here, and goes on on "
                f"numpy: {error}",
                stacklevel=2,
            )
            self.backend_ = "numpy"


def hidden_units(hidden_layer_sizes: Any) -> list[int]:
    """Return the units of each hidden layer.

    Raises:
        ValueError: a number is not whole, or not positive.
    """
    units = list(hidden_layer_sizes) if hasattr(hidden_layer_sizes, "__iter__") else [hidden_layer_sizes]
    if any(int(number) != number or number <= 0 for number in units):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {units}: whole numbers, one a hidden layer.")
    return [int(number) for number in units]
