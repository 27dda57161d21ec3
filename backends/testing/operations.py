"""Checks of operations, evaluation and prediction against the generic arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from unittest import mock

import numpy as np

from ..activations import ACTIVATIONS, Activation, Array
from ..base import Backend
from ..losses import LOSSES
from ..optimizers import SGD, Adam, Optimizer, State
from .problem import (
    CLASSES,
    DTYPES,
    GENERIC,
    ROWS,
    SCALE,
    TOLERANCE,
    Numbers,
    assert_close,
    assert_same,
    check,
    images_and_classes,
    labels_of,
    normal,
    on_host,
    pair_of_layers,
    rules,
)

SOFTSIGN = Activation(lambda xp, x: x / (1 + xp.abs(x)), lambda xp, grad_y, y: grad_y * (1 - xp.abs(y)) ** 2)


def wide(arrays: Sequence[Numbers]) -> list[Numbers]:
    """Convert arrays to float64."""
    return [array.astype("float64") for array in arrays]


def layer_arrays(dtype: str, rows: int = 7) -> list[Numbers]:
    """Return x (rows, 5), weight (5, 4) and bias (4,)."""
    return [normal(rows, 5, dtype=dtype), normal(5, 4, dtype=dtype, seed=1), normal(4, dtype=dtype, seed=2)]


# One layer


def assert_linear(backend: Backend, arrays: Sequence[Numbers], activation: str) -> None:
    """Assert that a layer's output, (rows, out_features), equals the generic one."""
    dtype = str(arrays[0].dtype)
    expected = GENERIC.linear(*wide(arrays), activation=activation).astype(dtype)
    placed = [backend.put(array) for array in arrays]
    assert_close(backend.to_numpy(backend.linear(*placed, activation=activation)), expected, dtype, "linear")
    assert_same(on_host(backend, placed), arrays, "what went into linear, afterwards")


@check("linear", dtype=DTYPES, activation=ACTIVATIONS, rows=[7, 1, 0])
def outputs_of_a_layer(backend: Backend, dtype: str, activation: str, rows: int) -> None:
    assert_linear(backend, layer_arrays(dtype, rows), activation)


@check("linear", dtype=DTYPES, activation=ACTIVATIONS)
def far_ends_are_right_and_a_nan_stays_one(backend: Backend, dtype: str, activation: str) -> None:
    x = np.array([[-1e4], [1e4], [np.nan], [0.0]], dtype)
    arrays = x, np.ones((1, 1), dtype), np.zeros(1, dtype)
    y = backend.to_numpy(backend.linear(*map(backend.put, arrays), activation=activation))[:, 0]
    assert np.isnan(y).tolist() == [False, False, True, False], f"{activation} of -1e4, 1e4, NaN, 0 gave {y}"
    expected = ACTIVATIONS[activation].forward(GENERIC.xp, wide([x])[0][[0, 1, 3], 0])
    np.testing.assert_allclose(y[[0, 1, 3]], expected, rtol=1e-6, err_msg=activation)


@check("linear", "linear_backward")
def the_table_of_activations_is_asked_each_time(backend: Backend) -> None:
    arrays, grad_y = layer_arrays("float64"), normal(7, 4, seed=3)
    for name in ("a name of the user's", "relu"):
        with mock.patch.dict(ACTIVATIONS, {name: SOFTSIGN}):
            assert_linear(backend, arrays, name)
            assert_linear_backward(backend, arrays, grad_y, name)


def assert_linear_backward(backend: Backend, arrays: Sequence[Numbers], grad_y: Numbers, activation: str) -> None:
    """Assert that a layer's gradients equal the generic ones, with and without that of its input."""
    dtype, (x, weight, _) = str(grad_y.dtype), arrays
    y = GENERIC.linear(*wide(arrays), activation=activation).astype(dtype)
    expected = GENERIC.linear_backward(*wide([grad_y, y, x, weight]), activation=activation)
    for need in (True, False):
        placed = [backend.put(array) for array in (grad_y, y, x, weight)]
        grads = backend.linear_backward(*placed, activation=activation, need_grad_x=need)
        assert (grads[0] is not None) == need, f"grad_x must be None where it is not needed, got {grads[0]}"
        for name, one, other in zip(("x", "weight", "bias"), grads, expected, strict=True):
            if one is not None:
                assert_close(backend.to_numpy(one), other, dtype, f"grad_{name} of linear_backward")
        assert_same(on_host(backend, placed[1:]), [y, x, weight], "y, x and weight after linear_backward")


@check("linear_backward", dtype=DTYPES, activation=ACTIVATIONS, rows=[7, 1, 0])
def gradients_of_a_layer(backend: Backend, dtype: str, activation: str, rows: int) -> None:
    assert_linear_backward(backend, layer_arrays(dtype, rows), normal(rows, 4, dtype=dtype, seed=3), activation)


# The losses


def loss_on_host(backend: Backend, outputs: Numbers, labels: Numbers, **options: Any) -> tuple[Numbers, ...]:
    """Return a backend's summed loss, correct rows and gradient on the host."""
    if options.get("weights") is not None:
        options["weights"] = backend.put(options["weights"])
    return tuple(on_host(backend, backend.loss(backend.put(outputs), backend.put(labels), **options)))


def assert_loss(backend: Backend, outputs: Numbers, labels: Numbers, **options: Any) -> None:
    """Assert that a backend's loss, correct rows and gradient equal the generic ones."""
    dtype = str(outputs.dtype)
    loss_sum, correct, grad = loss_on_host(backend, outputs, labels, **options)
    expected = GENERIC.loss(outputs.astype("float64"), labels, **options)
    assert loss_sum.shape == correct.shape == (), f"loss must sum, got shapes {loss_sum.shape}, {correct.shape}"
    assert loss_sum.dtype == np.float64, f"the sum of losses must be float64, got {loss_sum.dtype}"
    assert correct.dtype.kind in "iu", f"the number of correct rows must be an integer, got {correct.dtype}"
    np.testing.assert_allclose(loss_sum, expected[0], rtol=TOLERANCE[dtype], err_msg="sum of losses")
    assert correct == expected[1], f"correct rows must be {expected[1]}, got {correct}"
    assert_close(grad, expected[2], dtype, "gradient of the loss")


@check("loss", dtype=DTYPES, loss=LOSSES, weighted=[False, True], rows=[9, 1, 0])
def sums_and_gradients(backend: Backend, dtype: str, loss: str, weighted: bool, rows: int) -> None:
    outputs, labels = normal(rows, 4, dtype=dtype) * 3, labels_of(loss, np.arange(rows) % 4, 4)
    if loss == "sigmoid_cross_entropy":
        labels[::2] = outputs[::2] > 0  # rows all of whose outputs are right
    weights = np.arange(rows) % 3 / 2 if weighted else None
    assert_loss(backend, outputs, labels, loss=loss, batch_size=12.5, weights=weights)


@check("loss")
def equal_outputs_float32_rows_and_a_single_class(backend: Backend) -> None:
    """2^24 + 1 is no float32, so that a float32 sum would drop the small rows."""
    softmax: dict[str, Any] = {"loss": "softmax_cross_entropy", "batch_size": 3}
    ties = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 2.0, 2.0]])
    _, correct, _ = loss_on_host(backend, ties, np.array([0, 1, 1]), **softmax)
    assert correct == 2, f"of equal outputs the first must be chosen: 2 correct rows, got {correct}"
    large = np.zeros((3, 2), "float32")
    large[0, 1] = 2.0**25
    loss_sum, _, _ = loss_on_host(backend, large, np.zeros(3, np.int64), **softmax)
    np.testing.assert_allclose(loss_sum, 2.0**25 + 2 * np.log(2), rtol=1e-9, err_msg="sum of losses in float64")
    single = loss_on_host(backend, np.array([[3.0], [-2.0]]), np.array([0, 0]), **softmax)
    assert [each.tolist() for each in single] == [0.0, 2, [[0.0], [0.0]]], f"one class has no loss, got {single}"


@check("loss", dtype=DTYPES, loss=LOSSES)
def a_nan_shows_in_sum_and_gradient(backend: Backend, dtype: str, loss: str) -> None:
    outputs, labels = np.array([[0.0, np.nan], [0.0, 1.0]], dtype), labels_of(loss, np.array([0, 1]), 2)
    loss_sum, _, grad = loss_on_host(backend, outputs, labels, loss=loss, batch_size=2)
    assert np.isnan(loss_sum), f"the sum of losses must be NaN, got {loss_sum}"
    assert np.isnan(grad[0, 1]), f"the gradient of a NaN must be NaN, got {grad[0]}"
    assert not np.isnan(grad[1]).any(), f"other rows must have a gradient, got {grad[1]}"


def extreme_outputs(dtype: str) -> Numbers:
    """Return outputs (rows, 5) of all magnitudes, tiny differences and ties among them."""
    large, tiny = float(np.finfo(dtype).max), float(np.finfo(dtype).smallest_subnormal)
    scales = 1e-3, 1.0, 20.0, 1e4, 1e30, large / 16
    rows = [normal(2, 5, seed=k) * scale for k, scale in enumerate(scales)]
    special = [
        [20, 0, -3, -50, 1],  # confident: log1p(e^-20 + ...), of which 1 + e^-20 leaves nothing in float32
        [-60.3, 0.29, -75.9, -50.7, -45.1],
        [0, 0, 0, 0, 0],
        [1e30] * 5,
        [3, 3, -5, 3, 2],  # of several largest only one leaves the sum
        [1e30, 1e30, 0, -1e30, 1e4],
        [1e4, -1e4, 0, 1e4, 9990],
        [tiny, -tiny, 3 * tiny, 0, 1000 * tiny],
        [large / 4, -large / 4, 0, 1, 1e30],
    ]
    return np.concatenate([*rows, special]).astype(dtype)  # (rows, 5)


def assert_digits(loss_sum: Any, grad: Numbers, row: Numbers, label: int, loss: str) -> None:
    """Assert that loss and gradient (outputs,) of a row of extreme outputs are accurate."""
    labels, least = labels_of(loss, np.array([label]), 5), 5 * float(np.finfo(row.dtype).tiny)  # else may be 0
    expected_sum, _, [expected] = GENERIC.loss(row[None].astype("float64"), labels, loss=loss, batch_size=1)
    said, within = f"{loss} of {row}, label {label}", 1e-6 if row.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(loss_sum, expected_sum, rtol=within, atol=least, err_msg=said)
    np.testing.assert_allclose(grad, expected, rtol=0, atol=within, err_msg=said)
    np.testing.assert_allclose(grad[label], expected[label], rtol=within, atol=least, err_msg=said)


@check("loss", dtype=DTYPES, loss=["softmax_cross_entropy", "sigmoid_cross_entropy"])
def extreme_outputs_keep_their_digits(backend: Backend, dtype: str, loss: str) -> None:
    for row in extreme_outputs(dtype):
        for label in (int(row.argmax()), 2):
            labels = labels_of(loss, np.array([label]), 5)
            loss_sum, _, [grad] = loss_on_host(backend, row[None], labels, loss=loss, batch_size=1)
            assert_digits(loss_sum, grad, row, label, loss)


def squared(xp: Any, outputs: Array, labels: Array, *, batch_size: float) -> tuple[Array, Array, Array]:
    """User-defined loss: half the squared distance between the first output and the label."""
    error = outputs[:, 0] - xp.astype(labels, outputs.dtype)  # (rows,)
    grad = xp.concat([error[:, None] / batch_size, xp.zeros_like(outputs[:, 1:])], axis=1)  # (rows, outputs)
    return xp.sum(error * error, dtype=xp.float64) / 2, xp.sum(xp.astype(error == 0, labels.dtype)), grad


@check("loss")
def the_table_of_losses_is_asked_each_time(backend: Backend) -> None:
    for name in ("a name of the user's", "softmax_cross_entropy"):
        with mock.patch.dict(LOSSES, {name: squared}):
            assert_loss(backend, normal(5, 3), np.arange(5) % 3, loss=name, batch_size=5)


# The optimizers


def own_rule(kind: Any) -> Optimizer:
    """Return a user-defined optimizer, derived from one that a backend may have a kernel for."""

    @dataclass(frozen=True)
    class Signs(kind):  # type: ignore[misc]
        """Sign gradient descent."""

        learning_rate: float = 0.25
        name: ClassVar[str] = "signs"
        slots: ClassVar[tuple[str, ...]] = ()

        def update(self, xp: Any, parameter: Array, grad: Array, state: State, **now: Any) -> tuple[Array, State]:
            return parameter - now["learning_rate"] * now["step"] * xp.sign(grad), state

    rule: Optimizer = Signs()
    return rule


OWN_RULES = [own_rule(kind) for kind in (Optimizer, SGD, Adam)]


@check("update", dtype=DTYPES, optimizer=[*rules().values(), *OWN_RULES], l2=[0.0, 0.3], shape=[(5, 4), (4,)])
def steps_of_an_optimizer(
    backend: Backend, dtype: str, optimizer: Optimizer, l2: float, shape: tuple[int, ...]
) -> None:
    start = normal(*shape, dtype=dtype)
    parameter, [expected] = backend.put(start), wide([start])
    with backend.scope():
        state = optimizer.init(backend.xp, parameter)
    expected_state = optimizer.init(GENERIC.xp, expected)
    for step in range(1, 4):
        grad, now = normal(*shape, dtype=dtype, seed=step), dict[str, Any](step=step, learning_rate=0.05 * step)
        parameter, state = backend.update(optimizer, parameter, backend.put(grad), state, **now, l2=np.float64(l2))
        expected, expected_state = GENERIC.update(optimizer, expected, wide([grad])[0], expected_state, **now, l2=l2)
    assert state.keys() == expected_state.keys(), f"the state must have {[*expected_state]}, got {[*state]}"
    assert_close(backend.to_numpy(parameter), expected, dtype, "the updated parameter")
    for slot, array in expected_state.items():
        assert_close(backend.to_numpy(state[slot]), array, dtype, f"the state {slot}")


# The network as a whole


@check(
    "forward", "gradients",
    dtype=DTYPES, activation=ACTIVATIONS, loss=LOSSES, weighted=[False, True], dropout=[False, True],
    sizes=[(6, 3), (6, 4, 3), (6, 5, 4, 3)],
)  # fmt: skip
def outputs_and_gradients_of_the_network(
    backend: Backend, dtype: str, activation: str, loss: str, weighted: bool, dropout: bool, sizes: tuple[int, ...]
) -> None:
    layers, expected_layers = pair_of_layers(backend, sizes=sizes, activation=activation, dtype=dtype)
    x, labels = normal(8, 6, dtype=dtype), labels_of(loss, np.arange(8) % 3, 3)
    weights = np.arange(8) % 3 / 2 if weighted else None
    factors = [2.0 * (normal(8, units) > 0) for units in sizes[1:-1] if dropout]
    outputs, wanted = backend.forward(layers, backend.put(x)), GENERIC.forward(expected_layers, wide([x])[0])
    assert len(outputs) == len(wanted), f"forward must return {len(wanted)} outputs, got {len(outputs)}"
    for k, (one, other) in enumerate(zip(outputs, wanted, strict=True)):
        assert_close(backend.to_numpy(one), other, dtype, f"output of layer {k} of forward")
    seen: list[int] = []

    def swap(layer: int, grads: tuple[Array, Array]) -> tuple[Array, Array]:
        seen.append(layer)
        return grads[1], grads[0]

    grads, loss_sum, correct = backend.gradients(
        layers, backend.put(x), backend.put(labels), loss=loss, size=9.5, transform=swap,
        weights=None if weights is None else backend.put(weights),
        factors=[backend.put(factor.astype(dtype)) for factor in factors],
    )  # fmt: skip
    options: dict[str, Any] = {"loss": loss, "size": 9.5, "weights": weights, "factors": factors}
    expected, wanted_sum, wanted_correct = GENERIC.gradients(expected_layers, wide([x])[0], labels, **options)
    assert seen == [*reversed(range(len(layers)))], f"transform must be called from the last layer on, got {seen}"
    for k, (own, others) in enumerate(zip(grads, expected, strict=True)):
        for name, one, other in zip(("weight", "bias"), reversed(own), others, strict=True):
            assert_close(backend.to_numpy(one), other, dtype, f"gradient of {name} {k}")
    np.testing.assert_allclose(backend.to_numpy(loss_sum), wanted_sum, rtol=TOLERANCE[dtype], err_msg="loss_sum")
    assert int(backend.to_numpy(correct)) == int(wanted_correct), "correct rows of gradients"


@check("evaluate", dtype=DTYPES, images=["uint8", "float32"], loss=LOSSES, tile=[99, 7], weighted=[False, True])
def sums_over_all_rows(backend: Backend, dtype: str, images: str, loss: str, tile: int, weighted: bool) -> None:
    pixels, classes = images_and_classes(dtype=images)
    layers, expected_layers = pair_of_layers(backend, dtype=dtype)
    labels, weights = labels_of(loss, classes, CLASSES), np.arange(ROWS) % 3 / 2 if weighted else None
    with (
        mock.patch.object(backend, "evaluation_rows", tile),
        mock.patch.object(backend, "to_numpy", wraps=backend.to_numpy) as reads,
    ):
        got = backend.evaluate(layers, backend.place(pixels, labels, SCALE, weights), loss=loss)
    expected = GENERIC.evaluate(expected_layers, GENERIC.place(pixels, labels, SCALE, weights), loss=loss)
    np.testing.assert_allclose(got.loss_sum, expected.loss_sum, rtol=TOLERANCE[dtype], err_msg="loss_sum of evaluate")
    assert got[1:] == expected[1:], f"correct rows and rows must be {expected[1:]}, got {got[1:]}"
    assert [type(each) for each in got] == [float, int, int], f"evaluate must return numbers of Python, got {got}"
    assert reads.call_count <= 1, f"evaluate must read the device once, got {reads.call_count} reads"


@check("logits", "logits_on_device", dtype=DTYPES, images=["uint8", "float32"], tile=[99, 7], rows=[ROWS, 0])
def outputs_of_all_tiles_come_in_order(backend: Backend, dtype: str, images: str, tile: int, rows: int) -> None:
    pixels, _ = images_and_classes(rows, dtype=images)
    before, (layers, expected_layers) = pixels.copy(), pair_of_layers(backend, dtype=dtype)
    placed = backend.put(pixels)
    with mock.patch.object(backend, "evaluation_rows", tile):
        got = backend.logits(layers, pixels, np.float64(SCALE))
        on_device = backend.to_numpy(backend.logits_on_device(layers, placed, np.float64(SCALE)))
    assert type(got) is np.ndarray, f"logits must be on the host, got {type(got)}"
    expected = GENERIC.logits(expected_layers, before, SCALE).astype(dtype)
    assert_close(got, expected, dtype, "logits")
    assert_close(on_device, expected, dtype, "logits_on_device")
    assert_same([pixels, backend.to_numpy(placed)], [before, before], "the images, after logits and logits_on_device")
