"""Stochastic solvers, on the loop of `nn.train`."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from ...backends import SGD, Adam, AdamW, DivergenceError, Optimizer, RMSprop
from ..datasets.dataset import Split
from ..training.checkpoint import OptimizerState
from ..training.train import train
from .draws import RowOrder
from .fit import Fit, Record
from .parameters import Parameters
from .progress import RecordProgress


def optimizer_of(parameters: Parameters) -> Optimizer:
    """Return the optimizer of a stochastic solver.

    `rmsprop` has the default decay of `nn.RMSprop`; `adamw` uses `alpha` as decoupled weight decay.
    """
    rate, epsilon = parameters.learning_rate_init, parameters.epsilon
    match parameters.solver:
        case "sgd":
            momentum = float(parameters.momentum)
            return SGD(rate, momentum=momentum, nesterov=bool(parameters.nesterovs_momentum) and momentum > 0)
        case "rmsprop":
            return RMSprop(rate, epsilon=epsilon)
        case "adamw":
            betas = parameters.beta_1, parameters.beta_2
            return AdamW(rate, *betas, epsilon=epsilon, weight_decay=float(parameters.alpha))
        case _:
            return Adam(rate, parameters.beta_1, parameters.beta_2, epsilon=epsilon, epsilon_hat=True)


def fit_with_steps(fit: Fit) -> None:
    """Train for the one epoch of `partial_fit`, or until there is no improvement."""
    parameters, record, rows, validation = fit.parameters, fit.record, fit.rows, fit.validation
    if parameters.early_stopping and validation is None:
        rows, validation = hold_out(fit)
    optimizer = optimizer_of(parameters)
    if not (fit.is_partial and record.schedule == fit.schedule):
        record.rate_factor, record.schedule = 1.0, fit.schedule
    record.n_iter = 0
    epochs = 1 if fit.is_partial else int(parameters.max_iter)
    progress = RecordProgress(fit, validation)
    try:
        train(
            fit.net,
            rows,
            optimizer=optimizer,
            epochs=epochs,
            batch_size=batch_size_of(parameters, len(rows)),
            schedule=lambda _: record.rate_factor,
            l2=fit.penalty,
            l2_per_batch=True,
            dropout=float(parameters.dropout),
            shuffle=bool(parameters.shuffle),
            seed=RowOrder(fit.random_state, seed=int(fit.random_state.randint(2**31)) if parameters.dropout else 0),
            callbacks=[progress, *fit.callbacks, *([] if fit.tasks is None else [fit.tasks])],
            optimizer_state=state_for(optimizer, record) if fit.is_partial else None,
        )
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=6)
    except DivergenceError as error:
        if not progress.best:
            raise
        record.loss = np.nan
        record.loss_curve.append(record.loss)
        record.validation_scores.append(np.nan)
        record.validation_curve.append(np.nan)
        warnings.warn(f"{error}; the weights of the best epoch are kept", ConvergenceWarning, stacklevel=6)
    else:
        if not fit.is_partial and record.n_iter == epochs and not progress.is_converged:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({epochs}) reached and the optimization hasn't converged "
                "yet.",
                ConvergenceWarning,
                stacklevel=6,
            )
    if progress.run is not None:
        record.optimizer_state = None if progress.run.was_cut_off else progress.run.optimizer_state
        last = progress.run.last
        fit.trained = progress.best or ({} if last is None else last.parameters)
        fit.is_checked = last is not None and not progress.best


def state_for(optimizer: Optimizer, record: Record) -> OptimizerState | None:
    """Return the recorded state for an optimizer to continue from; None without one, or if it has other slots."""
    state, slots = record.optimizer_state, optimizer.init(np, np.empty(0))
    if state is None or {name.rpartition(".")[2] for name in state.arrays} != set(slots):
        return None
    arrays = {name: array.astype(record.dtype, copy=False) for name, array in state.arrays.items()}
    return OptimizerState(state.step, arrays)


def batch_size_of(parameters: Parameters, rows: int) -> int:
    """Return the batch size, at most the number of rows."""
    batch_size = 200 if parameters.batch_size == "auto" else int(parameters.batch_size)
    if parameters.batch_size != "auto" and batch_size > rows:
        warnings.warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=7
        )
    return min(batch_size, rows)


def hold_out(fit: Fit) -> tuple[Split, Split]:
    """Split off the validation set of early stopping as scikit-learn does."""
    rows, net = fit.rows, fit.net
    is_binary = net.loss == "sigmoid_cross_entropy" and net.sizes[-1] == 1
    parts = train_test_split(
        *(array for array in (rows.images, rows.labels, rows.weights) if array is not None),
        random_state=fit.random_state,
        test_size=fit.parameters.validation_fraction,
        stratify=rows.labels > 0 if is_binary else None,
    )
    training, validation = Split(*parts[0::2]), Split(*parts[1::2])
    if len(validation) < 2:
        raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your dataset.")
    return training, validation
