"""The optimizers as one kernel: a step on a flat buffer of parameters, in place and in one pass."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .numba_compile import kernel
from .optimizers import SGD, Adam, AdamW, Optimizer, RMSprop

DESCENT, MOMENTUM, NESTEROV, RMSPROP, ADAM = range(5)


class Rule(NamedTuple):
    """An optimizer's settings as the kernel takes them: the same type for all, so that one compilation does.

    Attributes:
        kind: which formula.
        beta_1: decay of the first slot: the velocity's, or that of the mean of the gradients.
        beta_2: decay of the mean of the squared gradients.
        epsilon: what is added to the root of that mean.
        weight_decay: decoupled decay of all parameters, per learning rate.
    """

    kind: int
    beta_1: float = 0.0
    beta_2: float = 0.0
    epsilon: float = 0.0
    weight_decay: float = 0.0


def rule_of(optimizer: Optimizer) -> Rule | None:
    """Return the rule of exactly this optimizer; None for one that the kernel does not know, such as a subclass."""
    match optimizer:
        case SGD() if type(optimizer) is SGD:
            kind = NESTEROV if optimizer.nesterov else MOMENTUM if optimizer.momentum else DESCENT
            return Rule(kind, float(optimizer.momentum))
        case RMSprop() if type(optimizer) is RMSprop:
            return Rule(RMSPROP, 0.0, float(optimizer.decay), float(optimizer.epsilon))
        case Adam() if type(optimizer) in (Adam, AdamW):
            decay = float(getattr(optimizer, "weight_decay", 0.0))
            return Rule(ADAM, float(optimizer.beta_1), float(optimizer.beta_2), float(optimizer.epsilon), decay)
    return None


def slot_pair(slots: list[Any], parameter: Any) -> tuple[Any, Any]:
    """Return two flat arrays for the kernel, empty ones in place of the slots that the optimizer does not have."""
    none = np.empty(0, dtype=parameter.dtype)
    first, second = [*slots, none, none][:2]
    return first.reshape(-1), second.reshape(-1)


@kernel
def update(
    rule: Rule,
    parameter: Any,
    grad: Any,
    first: Any,
    second: Any,
    step: int,
    learning_rate: float,
    l2: float,
) -> None:
    """Take one step of `rule`; the formulas and their sources are in `optimizers.py`.

    Args:
        rule: the optimizer.
        parameter: changed in place, (parameters,).
        grad: gradient of the mean loss without the penalty, (parameters,).
        first: velocity, mean, or RMSprop's mean square, changed in place, (parameters,) or (0,).
        second: Adam's mean square, changed in place, (parameters,) or (0,).
        step: number of this step, from 1.
        learning_rate: at this step.
        l2: strength of the penalty `l2 / 2 * sum(parameter**2)`.
    """
    number = parameter.dtype.type
    rate, penalty, one = number(learning_rate), number(l2), number(1)
    b1, b2, epsilon = number(rule.beta_1), number(rule.beta_2), number(rule.epsilon)
    c1, c2 = number(1 - rule.beta_1), number(1 - rule.beta_2)
    if rule.kind == DESCENT:
        for i in range(parameter.shape[0]):
            parameter[i] -= rate * (grad[i] + penalty * parameter[i])
    elif rule.kind == MOMENTUM:
        for i in range(parameter.shape[0]):
            v = b1 * first[i] + (grad[i] + penalty * parameter[i])
            first[i] = v
            parameter[i] -= rate * v
    elif rule.kind == NESTEROV:
        for i in range(parameter.shape[0]):
            g = grad[i] + penalty * parameter[i]
            v = b1 * first[i] + g
            first[i] = v
            parameter[i] -= rate * (g + b1 * v)
    elif rule.kind == RMSPROP:
        for i in range(parameter.shape[0]):
            g = grad[i] + penalty * parameter[i]
            s = b2 * first[i] + c2 * g * g
            first[i] = s
            parameter[i] -= rate * g / (np.sqrt(s) + epsilon)
    else:
        # The corrections of the zero start are the same for all parameters: they move out of the loop.
        rate = number(learning_rate / (1 - rule.beta_1**step))
        correction = number(1 / (1 - rule.beta_2**step))
        keep = one - number(learning_rate * rule.weight_decay)
        for i in range(parameter.shape[0]):
            g = grad[i] + penalty * parameter[i]
            m = b1 * first[i] + c1 * g
            v = b2 * second[i] + c2 * g * g
            first[i] = m
            second[i] = v
            parameter[i] = keep * parameter[i] - rate * m / (np.sqrt(correction * v) + epsilon)
