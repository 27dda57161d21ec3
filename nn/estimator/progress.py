"""End of an epoch: record curves, lower the learning rate, stop without improvement."""

from __future__ import annotations

import sys
from typing import ClassVar

import numpy as np

from ..datasets.dataset import Split
from ..files.tensors import Arrays
from ..network.mlp import MLP
from ..training.history import EpochResult
from ..training.run import Callback, TrainingRun
from .evaluation import evaluated
from .fit import Fit

LEAST_RATE = 1e-6  # an adaptive rate of this or less is not lowered further: the training ends
LOWERED_BY = 5.0


class RecordProgress(Callback):
    """Callback that updates a fit's record and stops its training.

    Args:
        fit: the fit, whose record is updated.
        validation: validation rows, or None.

    Attributes:
        best: parameters of the last epoch that raised the best validation score of all fits; empty if none did.
    """

    each_epoch: ClassVar[bool] = True

    def __init__(self, fit: Fit, validation: Split | None) -> None:
        self._fit, self._validation = fit, validation
        self._squares = 0.0  # of the weights, before the present epoch
        self.is_converged = False
        self.best: Arrays = {}
        self.run: TrainingRun | None = None

    def on_train_begin(self, run: TrainingRun) -> None:
        """Record the squared weights before the first step."""
        self.run = run
        if self._fit.penalty:
            self._squares = squared_weights(run.net)

    def on_epoch_end(self, run: TrainingRun, result: EpochResult) -> None:
        """Record the epoch, and lower the learning rate or stop."""
        fit, parameters, record = self._fit, self._fit.parameters, self._fit.record
        record.n_iter += 1
        record.t += len(run.source.rows)
        record.loss = fit.loss_share * result.train_loss + self._mean_penalty(run)
        record.loss_curve.append(record.loss)
        self._say(f"Iteration {record.n_iter}, loss = {record.loss:.8f}")
        score = np.nan
        if self._validation is not None:
            loss, score = evaluated(run.net, self._validation)
            record.validation_curve.append(fit.loss_share * loss)
            if len(getattr(parameters, "classes_", ())) == 1:  # whatever the outputs, it is predicted
                score = 1.0
        if not parameters.early_stopping:
            is_stuck = record.loss > record.best_loss - parameters.tol
            record.best_loss = min(record.loss, record.best_loss)
        else:
            self._say(f"Validation score: {score:f}")
            record.validation_scores.append(score)
            is_stuck = score < record.best_validation_score + parameters.tol
            if score > record.best_validation_score:
                record.best_validation_score, self.best = score, run.net.parameters()
        record.no_improvement_count = record.no_improvement_count + 1 if is_stuck else 0
        before = fit.rate
        if fit.schedule == "invscaling":
            record.rate_factor = float((record.t + 1) ** -float(parameters.power_t))
        if record.no_improvement_count > parameters.n_iter_no_change:
            self._lower_or_stop(run)
        if fit.rate != before:
            rescale_velocity(run, before / fit.rate)

    def _mean_penalty(self, run: TrainingRun) -> float:
        """Return the mean penalty over the batches of the epoch, each with the weights before its step.

        Squared weights are interpolated linearly between the first and last step, where they are known.
        """
        if not self._fit.penalty:
            return 0.0
        steps, before = run.source.steps_per_epoch or 1, self._squares
        self._squares = squared_weights(run.net)
        mean = before + (self._squares - before) * (steps - 1) / (2 * steps)
        return self._fit.penalty * steps / (2 * run.source.weight) * mean

    def _lower_or_stop(self, run: TrainingRun) -> None:
        """Lower the learning rate, or stop training."""
        fit, parameters = self._fit, self._fit.parameters
        what = "Validation score" if parameters.early_stopping else "Training loss"
        why = f"{what} did not improve more than tol={parameters.tol:f} for {parameters.n_iter_no_change} consecutive"
        is_adaptive = fit.schedule == "adaptive"
        if is_adaptive and fit.rate > LEAST_RATE:
            fit.record.rate_factor /= LOWERED_BY
            fit.record.no_improvement_count = 0
            self._say(f"{why} epochs. Setting learning rate to {fit.rate:f}")
            return
        self._say(f"{why} epochs. {'Learning rate too small. ' if is_adaptive else ''}Stopping.")
        self.is_converged = True
        run.stop()

    def _say(self, line: str) -> None:
        if self._fit.parameters.verbose:
            sys.stdout.write(line + "\n")


def squared_weights(net: MLP) -> float:
    """Return the sum of squared weights, without biases, with one read from the device."""
    xp, total = net.backend.xp, 0.0
    with net.backend.scope(), np.errstate(over="ignore"):  # the training looks at the weights itself
        for layer in net.layers:
            weights = xp.reshape(layer.weight, (-1,))  # (in_features * out_features,)
            total = total + xp.vecdot(weights, weights)
    return float(net.backend.to_numpy(total))


def rescale_velocity(run: TrainingRun, factor: float) -> None:
    """Rescale the momentum velocities, if any.

    scikit-learn's velocity includes the learning rate, `v <- momentum v - lr g`, and ours does not, `v <- momentum v +
    g`:
    after a change of the rate, scikit-learn's velocity keeps the old rate, which this reproduces.
    """
    state = run.plan.state()
    velocities = {name: array * array.dtype.type(factor) for name, array in state.items() if name.endswith(".velocity")}
    if velocities:
        run.plan.load_state({**state, **velocities}, run.plan.step)
