"""Formulas and steps of the optimizers, on lanes."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ...optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from ..compiler.compile import inner_kernel
from ..compiler.lane_types import Width
from ..compiler.lanes import like, load, square_root, store

DESCENT, MOMENTUM, NESTEROV, RMSPROP, ADAM = range(5)
KEEP = 5  # the parameters stay, and the gradient takes the place of the first slot


class Rule(NamedTuple):
    """An optimizer's settings as the kernel takes them: the same type for all, so that one compilation does.

    Attributes:
        kind: which formula.
        beta_1: decay of the first slot: the velocity's, or that of the mean of the gradients.
        beta_2: decay of the mean of the squared gradients.
        epsilon: what is added to the root of that mean.
        weight_decay: decoupled decay of all parameters, per learning rate.
        epsilon_hat: whether epsilon is added before the bias of the second mean is undone.
    """

    kind: int
    beta_1: float = 0.0
    beta_2: float = 0.0
    epsilon: float = 0.0
    weight_decay: float = 0.0
    epsilon_hat: bool = False


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
            betas, epsilon = (float(optimizer.beta_1), float(optimizer.beta_2)), float(optimizer.epsilon)
            return Rule(ADAM, *betas, epsilon, decay, bool(optimizer.epsilon_hat))
    return None


GRADIENT = Rule(KEEP)


class Step(NamedTuple):
    """What is the same for all parameters in one step; the formulas and their sources are in `optimizers.py`.

    Attributes:
        rule: the optimizer.
        learning_rate: at this step; for Adam divided by the correction of the first mean's zero start.
        correction: what the second mean is multiplied by for its zero start.
        epsilon: what is added to its root.
        keep: what decoupled decay leaves of a parameter.
    """

    rule: Rule
    learning_rate: float
    correction: float
    epsilon: float
    keep: float


@inner_kernel
def step_of(rule: Rule, step: int, learning_rate: float) -> Step:
    """Return the figures of step number `step`, from 1."""
    if rule.kind != ADAM:
        return Step(rule, learning_rate, 1.0, rule.epsilon, 1.0)
    correction = 1 / (1 - rule.beta_2**step)
    epsilon = rule.epsilon * math.sqrt(correction) if rule.epsilon_hat else rule.epsilon
    rate, keep = learning_rate / (1 - rule.beta_1**step), 1 - learning_rate * rule.weight_decay
    return Step(rule, rate, correction, epsilon, keep)


@inner_kernel
def stepped(step: Step, w: Any, g: Any, first: Any, second: Any) -> Any:
    """Return the next parameters and slots: all four are lanes.

    Args:
        step: figures of this step.
        w: parameters.
        g: gradient of the objective, the penalty included.
        first: velocity, mean, or RMSprop's mean square.
        second: Adam's mean square.
    """
    rule, rate = step.rule, like(w, step.learning_rate)
    b1, b2, epsilon = like(w, rule.beta_1), like(w, rule.beta_2), like(w, step.epsilon)
    c1, c2 = like(w, 1 - rule.beta_1), like(w, 1 - rule.beta_2)
    if rule.kind == MOMENTUM:
        first = b1 * first + g
        w = w - rate * first
    elif rule.kind == NESTEROV:
        first = b1 * first + g
        w = w - rate * (g + b1 * first)
    elif rule.kind == RMSPROP:
        first = b2 * first + c2 * g * g
        w = w - rate * g / (square_root(first) + epsilon)
    elif rule.kind == ADAM:
        first = b1 * first + c1 * g
        second = b2 * second + c2 * g * g
        w = like(w, step.keep) * w - rate * first / (square_root(like(w, step.correction) * second) + epsilon)
    else:
        w = w - rate * g
    return w, first, second


class KernelState(NamedTuple):
    """Flat buffers of one layout, (parameters,) or (0,) each.

    Attributes:
        parameters: weights and biases.
        first: the optimizer's first slot.
        second: its second slot.
        grads: gradients of the batch so far.
    """

    parameters: Any
    first: Any
    second: Any
    grads: Any


@inner_kernel
def state_of(states: KernelState, me: int) -> KernelState:
    """Return one thread's state, of buffers whose first axis is the threads."""
    return KernelState(states.parameters[me], states.first[me], states.second[me], states.grads[me])


@inner_kernel
def take_step(step: Step, state: KernelState, at: int, g: Any, l2: float, width: Width) -> Any:
    """Take a step on `width` parameters from `at` on with the gradient `g`, (width,); return them."""
    w = load(state.parameters, at, width)
    if step.rule.kind == KEEP:
        store(state.first, at, g)
        return w
    g = g + like(g, l2) * w
    zero = like(g, 0)
    if step.rule.kind == DESCENT:
        w, _, _ = stepped(step, w, g, zero, zero)
    elif step.rule.kind == ADAM:
        w, first, second = stepped(step, w, g, load(state.first, at, width), load(state.second, at, width))
        store(state.first, at, first)
        store(state.second, at, second)
    else:
        w, first, _ = stepped(step, w, g, load(state.first, at, width), zero)
        store(state.first, at, first)
    store(state.parameters, at, w)
    return w


@inner_kernel
def copy_parameters(source: KernelState, source_at: int, target: KernelState, target_at: int, count: int) -> None:
    """Copy some parameters and their slots."""
    for i in range(count):
        target.parameters[target_at + i] = source.parameters[source_at + i]
    if source.first.shape[0] > 0:
        for i in range(count):
            target.first[target_at + i] = source.first[source_at + i]
    if source.second.shape[0] > 0:
        for i in range(count):
            target.second[target_at + i] = source.second[source_at + i]


class Update(NamedTuple):
    """What becomes of the gradients of a tile: they are added to those of the batch so far or, at its end, make a step.

    Attributes:
        state: parameters, slots, and gradients of the batch so far.
        step: figures of the step that ends the batch.
        l2: strength of the penalty on weights.
        size: what the mean of the batch is over: its rows, or the sum of their weights.
        rows: rows of the tile, which its gradients are the sums over.
        is_first: whether no rows of the batch came before: there is no gradient to add to.
        is_last: whether no more rows follow: the gradient is complete.
    """

    state: KernelState
    step: Step
    l2: float
    size: float
    rows: int
    is_first: bool
    is_last: bool


@inner_kernel
def accumulate_or_step(update: Update, at: int, g: Any, l2: float, width: Width) -> None:
    """Add the gradient `g`, (width,), of the parameters from `at` on to that of the batch so far; if complete, step."""
    if not update.is_first:
        g = g + load(update.state.grads, at, width)
    if update.is_last:
        take_step(update.step, update.state, at, g, l2, width)
    else:
        store(update.state.grads, at, g)
