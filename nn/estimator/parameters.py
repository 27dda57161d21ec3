"""Parameters of the estimators: scikit-learn's and our own, each with its constraint."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field, fields
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
from sklearn.utils._param_validation import Interval, Options, StrOptions

Value = TypeVar("Value")

# scikit-learn's name of an activation -> the row of `ACTIVATIONS`
ACTIVATION_ROWS = {name: name for name in ("identity", "tanh", "relu", "leaky_relu")} | {"logistic": "sigmoid"}
STOCHASTIC_SOLVERS = frozenset({"sgd", "adam", "rmsprop", "adamw"})

_AT_LEAST_ONE = Interval(Integral, 1, None, closed="left")
_NOT_NEGATIVE = Interval(Real, 0, None, closed="left")
_POSITIVE = Interval(Real, 0, None, closed="neither")
_UNIT = Interval(Real, 0, 1, closed="left")


def _checked(default: Value, *constraints: Any) -> Value:
    """Declare a parameter with the constraints, any of which it must meet, in the form of scikit-learn's validation."""
    made: Value = field(default=default, metadata={"constraints": list(constraints)})
    return made


@dataclass(eq=False, repr=False)
class Parameters:
    """Common parameters of both estimators, documented in `MLPClassifier`."""

    hidden_layer_sizes: Any = _checked((100,), "array-like", _AT_LEAST_ONE)  # noqa: RUF009 - a field
    activation: str = _checked("relu", StrOptions(set(ACTIVATION_ROWS)))
    _: KW_ONLY
    solver: str = _checked("adam", StrOptions({"lbfgs", *STOCHASTIC_SOLVERS}))
    alpha: float = _checked(0.0001, _NOT_NEGATIVE)
    batch_size: int | str = _checked("auto", StrOptions({"auto"}), _AT_LEAST_ONE)
    learning_rate: str = _checked("constant", StrOptions({"constant", "invscaling", "adaptive"}))
    learning_rate_init: float = _checked(0.001, _POSITIVE)
    power_t: float = _checked(0.5, _NOT_NEGATIVE)
    max_iter: int = _checked(200, _AT_LEAST_ONE)
    shuffle: bool = _checked(True, "boolean")
    random_state: int | np.random.RandomState | None = _checked(None, "random_state")  # noqa: RUF009
    tol: float = _checked(1e-4, _NOT_NEGATIVE)
    verbose: bool | int = _checked(False, "verbose")
    warm_start: bool = _checked(False, "boolean")
    momentum: float = _checked(0.9, _UNIT)
    nesterovs_momentum: bool = _checked(True, "boolean")
    early_stopping: bool = _checked(False, "boolean")
    validation_fraction: float = _checked(0.1, _UNIT)
    beta_1: float = _checked(0.9, _UNIT)
    beta_2: float = _checked(0.999, _UNIT)
    epsilon: float = _checked(1e-8, _POSITIVE)
    n_iter_no_change: float = _checked(10, _AT_LEAST_ONE, Options(Real, {np.inf}))
    max_fun: int = _checked(15000, _AT_LEAST_ONE)
    backend: str = _checked("auto", str)
    dtype: str | None = _checked(None, StrOptions({"float32", "float64"}), None)
    dropout: float = _checked(0.0, _UNIT)
    n_threads: int | None = _checked(None, _AT_LEAST_ONE, None)


CONSTRAINTS: dict[str, list[Any]] = {each.name: each.metadata["constraints"] for each in fields(Parameters)}
