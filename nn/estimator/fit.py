"""State of one call of `fit` or `partial_fit`: everything that a solver reads and writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends.activations import Array
from ...backends.override import override
from ..datasets.dataset import Split
from ..files.tensors import Arrays
from ..network.mlp import MLP
from ..training.checkpoint import OptimizerState
from ..training.run import Callback
from .fit_tasks import FitTasks
from .parameters import Parameters


@dataclass(eq=False)
class Record:
    """Training progress of an estimator, for `partial_fit` and warm starts; it is pickled.

    Attributes, beside those that the estimator has by the same name and an underscore:
        dtype: dtype of coefficients and predictions.
        no_improvement_count: epochs since the last improvement by `tol`.
        rate_factor: factor of `learning_rate_init`.
        schedule: schedule that `rate_factor` belongs to.
        optimizer_state: state at the end of the last fit.
        series_backend: backend that "auto" chose for consecutive calls of `partial_fit`, or None.
    """

    dtype: np.dtype[Any]
    n_iter: int = 0
    t: int = 0
    loss: float = np.nan
    loss_curve: list[float] = field(default_factory=list)
    best_loss: float = np.inf
    validation_scores: list[float] = field(default_factory=list)
    best_validation_score: float = -np.inf
    validation_curve: list[float] = field(default_factory=list)
    no_improvement_count: int = 0
    rate_factor: float = 1.0
    schedule: str = "constant"
    optimizer_state: OptimizerState | None = None
    series_backend: str | None = None


class SharingMLP(MLP):
    """Network that does not copy the parameters it is given if they are on the host, where no plan overwrites them."""

    @override
    def _put(self, parameter: npt.NDArray[Any]) -> Array:
        if not self.backend.is_on_host:
            return super()._put(parameter)
        return np.ascontiguousarray(parameter, dtype=self.dtype)


@dataclass(eq=False)
class Fit:
    """One call of `fit` or `partial_fit`.

    Attributes:
        parameters: parameters of the estimator, read-only.
        net: network with its initial weights; trained in place.
        rows: training rows, including those that early stopping holds out.
        validation: validation rows that the caller gave, or None.
        random_state: source of the validation split and the orders.
        is_partial: whether it is an epoch of `partial_fit`, which keeps the optimizer state.
        record: progress, including earlier fits.
        trained: parameters to keep, by name; empty for those of the network.
        is_checked: whether training has checked that they are finite.
        callbacks: callbacks of the training loop.
        tasks: scikit-learn's callbacks; None without.
    """

    parameters: Parameters
    net: MLP
    rows: Split
    validation: Split | None
    random_state: np.random.RandomState
    is_partial: bool
    record: Record
    trained: Arrays = field(default_factory=dict)
    is_checked: bool = False
    callbacks: Sequence[Callback] = ()
    tasks: FitTasks | None = None

    @property
    def loss_share(self) -> float:
        """Factor of the network's loss in `loss_`.

        As in scikit-learn, a regression's loss is the mean over outputs, but Poisson's is their sum; the gradient is
        always that of the sum.
        """
        return 1 / self.net.sizes[-1] if self.net.outputs.function == "identity" else 1.0

    @property
    def penalty(self) -> float:
        """Strength of the L2 penalty in the loss; 0 for `adamw`, whose weight decay is decoupled."""
        return 0.0 if self.parameters.solver == "adamw" else float(self.parameters.alpha)

    @property
    def schedule(self) -> str:
        """Learning-rate schedule, for `sgd` only."""
        return self.parameters.learning_rate if self.parameters.solver == "sgd" else "constant"

    @property
    def rate(self) -> float:
        """Current learning rate."""
        return float(self.parameters.learning_rate_init) * self.record.rate_factor
