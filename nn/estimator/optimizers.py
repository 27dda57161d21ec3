"""The optimizer that an estimator's parameters ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...backends import SGD, Adam, AdamW, Optimizer, RMSprop

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
