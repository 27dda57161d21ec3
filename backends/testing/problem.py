"""Small training problem, generic reference results, and parametrization of checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise, product
from typing import Any

import numpy as np
import numpy.typing as npt

from ..activations import Array
from ..array_api import ArrayAPIBackend
from ..base import Backend
from ..constraints import options_of
from ..optimizers import OPTIMIZERS, SGD, Optimizer
from ..plan import Layer, Rows, TrainingJob
from ..step_options import StepOptions

Numbers = npt.NDArray[Any]

TOLERANCE = {"float32": 2e-6, "float64": 1e-12}  # of an operation's results, relative to the largest
DTYPES = tuple(TOLERANCE)
SCALE = 1 / 255
FEATURES, CLASSES, ROWS = 6, 3, 23
SIZES = (FEATURES, 4, CLASSES)
GENERIC = ArrayAPIBackend(np)  # what every backend is compared with


# The checks


@dataclass(frozen=True)
class Check:
    """One requirement on a backend.

    Attributes:
        operations: methods under test, or "signatures".
        what: description of the requirement.
        function: raises an AssertionError if the backend violates it.
        cases: further arguments of the function.
    """

    operations: tuple[str, ...]
    what: str
    function: Callable[..., None]
    cases: Callable[[], Sequence[dict[str, Any]]]

    @property
    def name(self) -> str:
        """Test id: operations and description."""
        return f"{', '.join(self.operations)}: {self.what}"

    def __call__(self, backend: Backend) -> None:
        """Check a backend in all cases; errors carry a note with their case."""
        for case in self.cases():
            try:
                self.function(backend, **case)
            except Exception as error:
                error.add_note(f"backend {backend.name!r}, check {self.name!r}, case {case}")
                raise


CHECKS: list[Check] = []  # those first that are about what others build on


def check(
    *operations: str, cases: Callable[[], Sequence[dict[str, Any]]] | None = None, **axes: Iterable[Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that makes a function a check, with given cases or a covering of axes."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        what = function.__name__.replace("_", " ")
        CHECKS.append(Check(operations, what, function, cases or (lambda: covering(None, **axes))))
        return function

    return add


def covering(pairs: Sequence[tuple[str, str]] | None = None, **values: Iterable[Any]) -> list[dict[str, Any]]:
    """Return few cases that cover all pairs of values of any two axes.

    Args:
        pairs: axes whose pairs must be covered; all by default.
        values: values of each axis, a keyword argument of the check.

    Returns:
        The cases, deterministic. Source: a greedy covering array, as in Cohen et al. 1997, "The AETG system".
    """
    axes = {name: list(choices) for name, choices in values.items()}
    if len(axes) < 2:
        return [{name: value} for name in axes for value in axes[name]] or [{}]
    wanted = combinations(axes, 2) if pairs is None else pairs
    left = {
        frozenset({(one, i), (other, j)}): None  # a dict, since a set has no order
        for one, other in wanted
        for i, j in product(range(len(axes[one])), range(len(axes[other])))
    }
    used: Counter[tuple[str, int]] = Counter()
    cases = []
    while left:
        case = sorted(next(iter(left)))
        chosen = {name for name, _ in case}
        for name in (each for each in axes if each not in chosen):  # in the order given: a set has another each time
            ways = [(name, k) for k in range(len(axes[name]))]
            gains = [sum(frozenset({way, other}) in left for other in case) for way in ways]
            case.append(max(zip(gains, [-used[way] for way in ways], ways, strict=True))[2])
        used.update(case)
        for pair in combinations(case, 2):
            left.pop(frozenset(pair), None)
        cases.append({name: axes[name][k] for name, k in sorted(case)})
    return cases


def assert_close(got: Numbers, expected: Numbers, dtype: str, what: str, tolerance: float = 0.0) -> None:
    """Assert that host arrays agree in dtype, shape and, relative to the largest entry, value."""
    within = (tolerance or TOLERANCE[dtype]) * max(np.abs(expected).max(initial=0), 1e-300)
    np.testing.assert_allclose(got, expected.astype(dtype), rtol=0, atol=within, err_msg=what, strict=True)


def assert_same(got: Sequence[Numbers], expected: Sequence[Numbers], what: str) -> None:
    """Assert that two lists of host arrays are bit-identical."""
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=what, strict=True)


def refusal(error: type[Exception], function: Callable[..., Any], *arguments: Any) -> str:
    """Return the message of the ConfigError that a call must raise."""
    try:
        function(*arguments)
    except error as raised:
        return str(raised)
    raise AssertionError(f"{function} must raise {error.__name__} for {arguments}")


def training_job(layers: list[Layer], rows: Rows, **options: Any) -> TrainingJob:
    """Return a job from step options and its own fields alike."""
    of_steps = {name: options.pop(name) for name in options_of(StepOptions) if name in options}
    return TrainingJob(layers, rows, StepOptions(**of_steps), **options)


# The problem


def normal(*shape: int, dtype: str = "float64", seed: int = 0) -> Numbers:
    """Return standard normal numbers from a fixed seed."""
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def images_and_classes(rows: int = ROWS, *, dtype: str = "uint8", seed: int = 1) -> tuple[Numbers, Numbers]:
    """Return images (rows, FEATURES), floating ones in [0, 1], and classes (rows,) in [0, CLASSES) that follow."""
    images = np.random.default_rng(seed).integers(0, 256, (rows, FEATURES), dtype=np.uint8)  # (rows, features)
    classes = np.argmax(images[:, :CLASSES], axis=1).astype(np.int64)  # (rows,)
    return (images if dtype == "uint8" else (images / 255).astype(dtype)), classes


def labels_of(loss: str, classes: Numbers, outputs: int) -> Numbers:
    """Convert classes (rows,) to the labels of a loss, (rows,) or (rows, outputs)."""
    if loss == "softmax_cross_entropy":
        return classes
    scale, shift = {"sigmoid_cross_entropy": (1, 0), "poisson": (2.5, 0)}.get(loss, (2.5, -0.75))
    labels: Numbers = scale * np.eye(outputs)[classes] + shift
    return labels


def parameters(sizes: Sequence[int] = SIZES, *, dtype: str = "float64", seed: int = 2) -> list[Numbers]:
    """Return the weights and biases of all layers, interleaved."""
    generator, arrays = np.random.default_rng(seed), []
    for in_features, out_features in pairwise(sizes):
        arrays.append(generator.normal(0, 0.7, (in_features, out_features)).astype(dtype))
        arrays.append(generator.normal(0, 0.3, out_features).astype(dtype))
    return arrays


def layers_of(backend: Backend, arrays: Sequence[Numbers], *, activation: str = "relu") -> list[Layer]:
    """Return layers on a backend from interleaved weights and biases."""
    placed = [backend.put(array) for array in arrays]
    layers = [Layer(*pair, activation) for pair in zip(placed[::2], placed[1::2], strict=True)]
    layers[-1].activation = "identity"
    return layers


def pair_of_layers(
    backend: Backend, *, sizes: Sequence[int] = SIZES, activation: str = "relu", dtype: str = "float64"
) -> tuple[list[Layer], list[Layer]]:
    """Return the same network on the backend, and in float64 on the generic one."""
    arrays = parameters(sizes, dtype=dtype)
    wide = [array.astype("float64") for array in arrays]
    return layers_of(backend, arrays, activation=activation), layers_of(GENERIC, wide, activation=activation)


def on_host(backend: Backend, arrays: Sequence[Array]) -> list[Numbers]:
    """Copy arrays to the host."""
    return [backend.to_numpy(array) for array in arrays]


def weights_of(backend: Backend, layers: Sequence[Layer]) -> list[Numbers]:
    """Copy the weights and biases of all layers to the host, interleaved."""
    return on_host(backend, [array for layer in layers for array in (layer.weight, layer.bias)])


def rules() -> dict[str, Optimizer]:
    """Return every optimizer, and SGD with both kinds of momentum.

    Their numbers are NumPy's, which must make no float64 of a float32 network.
    """
    rate, momentum = np.float64(0.05), np.float64(0.9)
    both = {"momentum": SGD(2 * rate, momentum), "nesterov": SGD(2 * rate, momentum, nesterov=True)}
    return {name: kind(rate) for name, kind in OPTIMIZERS.items()} | both
