"""What an estimator does after each epoch: it keeps the curves, lowers the rate, and stops where nothing improves."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..network.mlp import MLP
from ..training.history import EpochResult
from ..training.run import Callback, TrainingRun
from .learning_rates import LearningRate

if TYPE_CHECKING:
    from .base import BaseMLP

Score = Callable[[MLP], float]


class Progress(Callback):
    """Listens to the training of an estimator and writes what it hears into the estimator's attributes.

    Args:
        estimator: whose `n_iter_`, `t_`, `loss_`, curves and best values go on from where they are.
        rate: its learning rate.
        total_weight: number of training rows, or the sum of their weights.
        penalty: strength of the L2 penalty, 0 where the solver has none.
        loss_share: what the network's loss of a row is multiplied by.
        score: of the validation rows; None without early stopping.
    """

    each_epoch: ClassVar[bool] = True

    def __init__(
        self,
        estimator: BaseMLP,
        rate: LearningRate,
        *,
        total_weight: float,
        penalty: float,
        loss_share: float,
        score: Score | None,
    ) -> None:
        self._estimator, self._rate, self._score = estimator, rate, score
        self._penalty, self._total_weight, self._loss_share = float(penalty), total_weight, loss_share
        self._squares = 0.0  # of the weights, before the present epoch
        self.is_converged = False
        self.run: TrainingRun | None = None

    def on_train_begin(self, run: TrainingRun) -> None:
        """Look at the weights before the first step."""
        self.run = run
        if self._penalty:
            self._squares = squared_weights(run.net)

    def on_epoch_end(self, run: TrainingRun, result: EpochResult) -> None:
        """Keep the epoch's figures, and decide how to go on."""
        mine = self._estimator
        mine.n_iter_ += 1
        mine.t_ += len(run.source.rows)
        mine.loss_ = self._loss_share * result.train_loss + self._mean_penalty(run)
        mine.loss_curve_.append(mine.loss_)
        self._say(f"Iteration {mine.n_iter_}, loss = {mine.loss_:.8f}")
        if self._score is None:
            self._note_loss(mine.loss_)
        else:
            self._note_score(self._score(run.net), run.net)
        before = self._rate.rate
        self._rate.end_epoch(mine.t_)
        if mine._no_improvement_count > mine.n_iter_no_change:
            self._end_or_lower(run)
        if self._rate.rate != before:
            rescale_velocity(run, before / self._rate.rate)

    def note_divergence(self) -> None:
        """Keep that the training ended in numbers that are none: where the best weights are kept, they stay."""
        mine = self._estimator
        mine.loss_ = float("nan")
        mine.loss_curve_.append(mine.loss_)
        if mine.validation_scores_ is not None:
            mine.validation_scores_.append(float("nan"))

    def _mean_penalty(self, run: TrainingRun) -> float:
        """Return the penalty in the mean over the epoch's batches, each with the weights before its step.

        Between the first and the last step, whose squared weights are known, they are taken to go along a line.
        """
        if not self._penalty:
            return 0.0
        steps, before = run.source.steps_per_epoch, self._squares
        self._squares = squared_weights(run.net)
        mean = before + (self._squares - before) * (steps - 1) / (2 * steps)
        return self._penalty * steps / (2 * self._total_weight) * mean

    def _note_loss(self, loss: float) -> None:
        """Compare the training loss with the best."""
        mine = self._estimator
        best = np.inf if mine.best_loss_ is None else mine.best_loss_
        mine._no_improvement_count = mine._no_improvement_count + 1 if loss > best - mine.tol else 0
        mine.best_loss_ = min(loss, best)

    def _note_score(self, score: float, net: MLP) -> None:
        """Compare the validation score with the best, and keep the weights of the best."""
        mine = self._estimator
        if mine.validation_scores_ is None or mine.best_validation_score_ is None:  # early stopping is new to it
            mine.validation_scores_, mine.best_validation_score_ = [], -np.inf
        mine.validation_scores_.append(score)
        self._say(f"Validation score: {score:f}")
        best = mine.best_validation_score_
        mine._no_improvement_count = mine._no_improvement_count + 1 if score < best + mine.tol else 0
        if score > best:
            mine.best_validation_score_ = score
            mine._best = net.parameters()

    def _end_or_lower(self, run: TrainingRun) -> None:
        """End the training, or go on with a lower learning rate."""
        mine = self._estimator
        what = "Training loss" if self._score is None else "Validation score"
        why = f"{what} did not improve more than tol={mine.tol:f} for {mine.n_iter_no_change} consecutive epochs."
        if self._rate.lower():
            mine._no_improvement_count = 0
            self._say(f"{why} Setting learning rate to {self._rate.rate:f}")
            return
        self._say(f"{why} {'Learning rate too small. ' if self._rate.kind == 'adaptive' else ''}Stopping.")
        self.is_converged = True
        run.stop()

    def _say(self, line: str) -> None:
        if self._estimator.verbose:
            sys.stdout.write(line + "\n")


def squared_weights(net: MLP) -> float:
    """Return the sum of all squared weights, biases left out, after one read from the device."""
    xp, total = net.backend.xp, 0.0
    with net.backend.scope(), np.errstate(over="ignore"):  # the training looks at the weights itself
        for layer in net.layers:
            weights = xp.reshape(layer.weight, (-1,))  # (in_features * out_features,)
            total = total + xp.vecdot(weights, weights)
    return float(net.backend.to_numpy(total))


def rescale_velocity(run: TrainingRun, factor: float) -> None:
    """Multiply the velocities of momentum, if there are any.

    scikit-learn's velocity has the learning rate in it, `v <- momentum v - lr g`, and ours has not, `v <- momentum v +
    g`: where the rate changes, theirs goes on with the old rate's steps, and so does this.
    """
    state = run.plan.state()
    velocities = {name: array * array.dtype.type(factor) for name, array in state.items() if name.endswith(".velocity")}
    if velocities:
        run.plan.load_state({**state, **velocities}, run.plan.step)
