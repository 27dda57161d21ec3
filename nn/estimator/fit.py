"""One call of `fit` or `partial_fit` as an object: all that a solver reads, and all that it writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..datasets.dataset import Split
from ..network.mlp import MLP
from ..training.checkpoint import OptimizerState
from .parameters import Parameters


@dataclass(eq=False)
class Record:
    """Progress of an estimator's training, from which `partial_fit` and warm starts go on; it is pickled.

    Attributes:
        dtype: of coefficients and predictions.
        n_iter: epochs or iterations of the last fit.
        t: rows seen in all.
        loss: of the last epoch, with the penalty.
        loss_curve: the loss of each epoch.
        best_loss: the least of the epochs without early stopping.
        validation_scores: of each epoch with early stopping.
        best_validation_score: the highest of them.
        best_parameters: the network's parameters in that epoch; empty before.
        no_improvement_count: epochs since the last improvement by `tol`.
        rate_factor: multiplies `learning_rate_init`.
        optimizer_state: at the end of the last fit.
    """

    dtype: np.dtype[Any]
    n_iter: int = 0
    t: int = 0
    loss: float = np.nan
    loss_curve: list[float] = field(default_factory=list)
    best_loss: float = np.inf
    validation_scores: list[float] = field(default_factory=list)
    best_validation_score: float = -np.inf
    best_parameters: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    no_improvement_count: int = 0
    rate_factor: float = 1.0
    optimizer_state: OptimizerState | None = None


@dataclass(eq=False)
class Fit:
    """One call of `fit` or `partial_fit`.

    Attributes:
        parameters: the estimator's; read, never written.
        net: the network with its starting weights; trained in place.
        rows: the training rows, of which early stopping holds some back.
        random_state: holds rows back and draws the orders.
        is_partial: whether it is an epoch of `partial_fit`, whose optimizer goes on where the last one ended.
        record: goes on from the fits before.
    """

    parameters: Parameters
    net: MLP
    rows: Split
    random_state: np.random.RandomState
    is_partial: bool
    record: Record

    @property
    def loss_share(self) -> float:
        """Factor of the network's loss in `loss_`.

        Of numbers it is the mean over the outputs, though the gradient is that of their sum, as in scikit-learn.
        """
        return 1 / self.net.sizes[-1] if self.net.loss == "squared_error" else 1.0

    @property
    def penalty(self) -> float:
        """Strength of the L2 penalty in the loss; `adamw` decays the weights apart from it."""
        return 0.0 if self.parameters.solver == "adamw" else float(self.parameters.alpha)

    @property
    def schedule(self) -> str:
        """Schedule of the learning rate, which only `sgd` has."""
        return self.parameters.learning_rate if self.parameters.solver == "sgd" else "constant"

    @property
    def rate(self) -> float:
        """The learning rate now."""
        return float(self.parameters.learning_rate_init) * self.record.rate_factor
