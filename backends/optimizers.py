"""Optimizers: pairs of pure functions, `init` and `update`, with settings.

`init` returns the state arrays of a parameter; `update` maps a parameter, its gradient and its state to the next
parameter and state, without in-place changes, so it runs on any array namespace. A new optimizer is a class with
`update` and a row in `OPTIMIZERS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, ClassVar

from .activations import Array
from .constraints import BELOW_1, NOT_NEGATIVE, POSITIVE, shown
from .errors import ConfigError
from .override import override

State = dict[str, Array]  # slot -> an array of the parameter's shape


@dataclass(frozen=True)
class Optimizer(ABC):
    """Base class of optimizers.

    Attributes:
        learning_rate: learning rate, > 0; multiplied by the schedule.
        slots: names of the state arrays of a parameter.
        is_elementwise: whether each element's update depends only on its own gradient and slots.
    """

    learning_rate: float

    name: ClassVar[str]
    slots: ClassVar[tuple[str, ...]] = ()
    is_elementwise: ClassVar[bool] = False
    _unit_interval: ClassVar[tuple[str, ...]] = ()  # settings that must lie in [0, 1)
    _positive: ClassVar[tuple[str, ...]] = ()  # settings that must be > 0

    def __post_init__(self) -> None:
        for field in fields(self):  # a NumPy number would turn the arithmetic of a float32 network into float64
            if isinstance(field.default, float):
                number = getattr(self, field.name)
                if isinstance(number, bool) or not isinstance(number, Real):
                    raise ConfigError(f"{field.name} of {self.name} must be a number, got {shown(number)}")
                try:
                    object.__setattr__(self, field.name, float(number))
                except OverflowError:
                    raise ConfigError(
                        f"{field.name} of {self.name} must be a finite number, got {shown(number)}, beyond all floats"
                    ) from None
        for setting in ("learning_rate", *self._positive):
            POSITIVE.check(f"{setting} of {self.name}", getattr(self, setting))
        for setting in self._unit_interval:
            BELOW_1.check(f"{setting} of {self.name}", getattr(self, setting))

    def settings(self) -> dict[str, float | bool]:
        """Return the settings by name, as in a run's `config.json`."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def formulas(self) -> tuple[str, ...]:
        """Return the formulas of a step: parameter `p`, gradient `g`, step number `t`, learning rate `lr`."""
        return ()

    def init(self, xp: Any, parameter: Array) -> State:
        """Return the state before the first step: zeros of the parameter's shape."""
        return {slot: xp.zeros_like(parameter) for slot in self.slots}

    @abstractmethod
    def update(
        self, xp: Any, parameter: Array, grad: Array, state: State, *, step: int, learning_rate: float
    ) -> tuple[Array, State]:
        """Return the parameter and state after one step.

        Args:
            xp: the array namespace.
            parameter: weights or biases, any shape.
            grad: gradient of the loss, the parameter's shape.
            state: arrays named in `slots`, each of the parameter's shape.
            step: number of this step, from 1.
            learning_rate: the schedule's value at this step.

        Returns:
            The updated parameter and state.
        """


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum (Polyak 1964) or Nesterov's (Sutskever et al. 2013)."""

    learning_rate: float = 0.1
    momentum: float = 0.0
    nesterov: bool = False

    name: ClassVar[str] = "sgd"
    is_elementwise: ClassVar[bool] = True
    slots: ClassVar[tuple[str, ...]] = ("velocity",)
    _unit_interval: ClassVar[tuple[str, ...]] = ("momentum",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and self.momentum == 0:
            raise ConfigError("nesterov needs momentum > 0, got 0.0; pass momentum=0.9, say")

    @override
    def formulas(self) -> tuple[str, ...]:
        if not self.momentum:
            return ("p <- p - lr g",)
        return "v <- momentum v + g", "p <- p - lr (g + momentum v)" if self.nesterov else "p <- p - lr v"

    def init(self, xp: Any, parameter: Array) -> State:
        """Return a zero velocity with momentum, else an empty state."""
        return super().init(xp, parameter) if self.momentum else {}

    @override
    def update(
        self, xp: Any, parameter: Array, grad: Array, state: State, *, step: int, learning_rate: float
    ) -> tuple[Array, State]:
        if not self.momentum:
            return parameter - learning_rate * grad, state
        velocity = self.momentum * state["velocity"] + grad
        direction = grad + self.momentum * velocity if self.nesterov else velocity
        return parameter - learning_rate * direction, {"velocity": velocity}


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """RMSprop (Tieleman and Hinton 2012, lecture 6.5)."""

    learning_rate: float = 1e-3
    decay: float = 0.9
    epsilon: float = 1e-8

    name: ClassVar[str] = "rmsprop"
    is_elementwise: ClassVar[bool] = True
    slots: ClassVar[tuple[str, ...]] = ("mean_square",)
    _unit_interval: ClassVar[tuple[str, ...]] = ("decay",)
    _positive: ClassVar[tuple[str, ...]] = ("epsilon",)

    @override
    def formulas(self) -> tuple[str, ...]:
        return "s <- decay s + (1 - decay) g^2", "p <- p - lr g / (sqrt(s) + epsilon)"

    @override
    def update(
        self, xp: Any, parameter: Array, grad: Array, state: State, *, step: int, learning_rate: float
    ) -> tuple[Array, State]:
        mean_square = self.decay * state["mean_square"] + (1 - self.decay) * grad * grad
        return parameter - learning_rate * grad / (xp.sqrt(mean_square) + self.epsilon), {"mean_square": mean_square}


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma and Ba 2015, algorithm 1).

    Attributes:
        epsilon_hat: whether epsilon is added to `sqrt(v)` instead of `sqrt(v^)`: the form at the end of section 2 of
            the paper, used by scikit-learn and TensorFlow; it differs in early steps.
    """

    learning_rate: float = 1e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    epsilon_hat: bool = False

    name: ClassVar[str] = "adam"
    is_elementwise: ClassVar[bool] = True
    slots: ClassVar[tuple[str, ...]] = ("mean", "mean_square")
    _unit_interval: ClassVar[tuple[str, ...]] = ("beta_1", "beta_2")
    _positive: ClassVar[tuple[str, ...]] = ("epsilon",)

    @override
    def formulas(self) -> tuple[str, ...]:
        root = "sqrt(v) + epsilon" if self.epsilon_hat else "sqrt(v^) + epsilon"
        return (
            "m <- beta_1 m + (1 - beta_1) g",
            "v <- beta_2 v + (1 - beta_2) g^2",
            "m^ = m / (1 - beta_1^t)",
            "v^ = v / (1 - beta_2^t)",
            f"p <- p - lr m^ sqrt(1 - beta_2^t) / ({root})" if self.epsilon_hat else f"p <- p - lr m^ / ({root})",
        )

    @override
    def update(
        self, xp: Any, parameter: Array, grad: Array, state: State, *, step: int, learning_rate: float
    ) -> tuple[Array, State]:
        mean = self.beta_1 * state["mean"] + (1 - self.beta_1) * grad
        mean_square = self.beta_2 * state["mean_square"] + (1 - self.beta_2) * grad * grad
        corrected_mean = mean / (1 - self.beta_1**step)
        corrected_square = mean_square / (1 - self.beta_2**step)
        epsilon = self.epsilon / (1 - self.beta_2**step) ** 0.5 if self.epsilon_hat else self.epsilon
        parameter = parameter - learning_rate * corrected_mean / (xp.sqrt(corrected_square) + epsilon)
        return parameter, {"mean": mean, "mean_square": mean_square}


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2)."""

    weight_decay: float = 0.01

    name: ClassVar[str] = "adamw"
    is_elementwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        NOT_NEGATIVE.check("weight_decay of adamw", self.weight_decay)

    @override
    def formulas(self) -> tuple[str, ...]:
        return "p <- p - lr weight_decay p", *super().formulas()

    @override
    def update(
        self, xp: Any, parameter: Array, grad: Array, state: State, *, step: int, learning_rate: float
    ) -> tuple[Array, State]:
        decayed = parameter * (1 - learning_rate * self.weight_decay)
        return super().update(xp, decayed, grad, state, step=step, learning_rate=learning_rate)


OPTIMIZERS: dict[str, type[Optimizer]] = {kind.name: kind for kind in (SGD, RMSprop, Adam, AdamW)}
