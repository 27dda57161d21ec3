"""Training an estimator's network by steps on batches, in the loop of `nn.train`."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from ...backends import SGD, Adam, AdamW, DivergenceError, Optimizer, RMSprop
from ..datasets.dataset import Split
from ..network.mlp import MLP
from ..training.train import train
from .draws import RowOrder
from .learning_rates import LearningRate
from .progress import Progress, Score

if TYPE_CHECKING:
    from .base import BaseMLP


def optimizer_of(estimator: BaseMLP) -> Optimizer:
    """Return the optimizer of a stochastic solver.

    `rmsprop` has the decay that `nn.RMSprop` has by default; `adamw` takes `alpha` as its decoupled decay.
    """
    rate, epsilon = estimator.learning_rate_init, estimator.epsilon
    match estimator.solver:
        case "sgd":
            momentum = float(estimator.momentum)
            return SGD(rate, momentum=momentum, nesterov=bool(estimator.nesterovs_momentum) and momentum > 0)
        case "rmsprop":
            return RMSprop(rate, epsilon=epsilon)
        case "adamw":
            betas = estimator.beta_1, estimator.beta_2
            return AdamW(rate, *betas, epsilon=epsilon, weight_decay=float(estimator.alpha))
        case _:
            return Adam(rate, estimator.beta_1, estimator.beta_2, epsilon=epsilon, epsilon_hat=True)


def fit_with_steps(
    estimator: BaseMLP, net: MLP, rows: Split, random_state: np.random.RandomState, *, incremental: bool
) -> None:
    """Train in the loop of `nn.train`, for an epoch of `partial_fit` or until nothing improves.

    Args:
        estimator: its curves, counts and best values go on.
        net: the network, changed in place.
        rows: the training rows, of which early stopping holds some back.
        random_state: divides the rows and draws their orders.
        incremental: whether it is an epoch of `partial_fit`, whose optimizer goes on where the last one ended.
    """
    optimizer = optimizer_of(estimator)
    score: Score | None = None
    if estimator.early_stopping:
        rows, held_back = _held_back(estimator, rows, random_state)
        score = _score_of(estimator, held_back)
    goes_on = incremental and hasattr(estimator, "_optimizer_state")
    if not goes_on:
        kind = estimator.learning_rate if estimator.solver == "sgd" else "constant"
        estimator._rate = LearningRate(kind, start=optimizer.learning_rate, power_t=estimator.power_t)
    estimator.n_iter_ = 0
    decays_apart = estimator.solver == "adamw"
    batch_size = _batch_size(estimator, len(rows))
    alpha = 0.0 if decays_apart else float(estimator.alpha)
    progress = Progress(
        estimator,
        estimator._rate,
        total_weight=len(rows) if rows.weights is None else float(rows.weights.sum()),
        penalty=alpha,
        loss_share=estimator._loss_share(),
        score=score,
    )
    epochs = 1 if incremental else int(estimator.max_iter)
    try:
        train(
            net,
            rows,
            optimizer=optimizer,
            epochs=epochs,
            batch_size=batch_size,
            schedule=estimator._rate,
            l2=alpha,
            l2_per_batch=True,
            dropout=float(estimator.dropout),
            shuffle=bool(estimator.shuffle),
            seed=RowOrder(random_state, seed=int(random_state.randint(2**31)) if estimator.dropout else 0),
            callbacks=[progress],
            optimizer_state=estimator._optimizer_state if goes_on else None,
        )
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=4)
    except DivergenceError as error:
        if not hasattr(estimator, "_best"):
            raise
        progress.note_divergence()
        warnings.warn(f"{error}; the weights of the best epoch are kept", ConvergenceWarning, stacklevel=4)
    else:
        if not incremental and estimator.n_iter_ == epochs and not progress.is_converged:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({epochs}) reached and the optimization hasn't converged "
                "yet.",
                ConvergenceWarning,
                stacklevel=4,
            )
    if progress.run is not None:
        estimator._optimizer_state = progress.run.optimizer_state
    if score is not None and hasattr(estimator, "_best"):
        net.load_parameters(estimator._best)


def _batch_size(estimator: BaseMLP, rows: int) -> int:
    """Return the rows of a step, of which there are no more than rows."""
    if estimator.batch_size != "auto" and int(estimator.batch_size) > rows:
        warnings.warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=5
        )
    return min(200 if estimator.batch_size == "auto" else int(estimator.batch_size), rows)


def _held_back(estimator: BaseMLP, rows: Split, random_state: np.random.RandomState) -> tuple[Split, Split]:
    """Divide rows into those to train on and those that early stopping looks at, as scikit-learn does."""
    is_binary = is_classifier(estimator) and estimator.n_outputs_ == 1
    arrays: list[npt.NDArray[Any]] = [rows.images, rows.labels, *([] if rows.weights is None else [rows.weights])]
    parts = train_test_split(
        *arrays,
        random_state=random_state,
        test_size=estimator.validation_fraction,
        stratify=rows.labels > 0 if is_binary else None,
    )
    training, held_back = Split(*parts[0::2]), Split(*parts[1::2])
    if len(held_back) < 2:
        raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your dataset.")
    return training, held_back


def _score_of(estimator: BaseMLP, rows: Split) -> Score:
    """Return the score of a network on rows, as a function of the network."""

    def score(net: MLP) -> float:
        with np.errstate(all="ignore"):
            outputs = net.backend.logits(net.layers, rows.images, 1.0)  # (samples, outputs)
        return estimator._score_outputs(outputs, rows.labels, rows.weights)

    return score
