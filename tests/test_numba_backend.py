"""The Numba backend's operations, each against the generic one, and how the backend is had.

The contract that all backends share is in test_backend_contract.py. With NUMBA_DISABLE_JIT=1 the kernels are plain
Python and the same tests hold.
"""

import sys
from importlib.metadata import requires

import numpy as np
import pytest
from xpnn.backends import (
    ACTIVATIONS,
    LOSSES,
    SGD,
    Activation,
    Adam,
    AdamW,
    BackendUnavailable,
    ConfigError,
    RMSprop,
    get_backend,
    why_unavailable,
)

if reason := why_unavailable("numba"):
    pytest.skip(reason, allow_module_level=True)

from xpnn.backends.numba_backend import NumbaBackend

RULES = {
    "sgd": SGD(0.1),
    "momentum": SGD(0.05, momentum=0.9),
    "nesterov": SGD(0.05, momentum=0.9, nesterov=True),
    "rmsprop": RMSprop(1e-2),
    "adam": Adam(1e-2),
    "adamw": AdamW(1e-2, weight_decay=0.1),
}


@pytest.fixture
def backend():
    return get_backend("numba")


def make_rows(backend, count=23, features=6, dtype="uint8"):
    generator = np.random.default_rng(1)
    images = generator.integers(0, 256, (count, features), dtype=np.uint8)
    labels = np.argmax(images[:, :3], axis=1).astype(np.int64)
    return backend.place(
        images.astype(dtype) / 255 if dtype.startswith("float") else images.astype(dtype), labels, 1 / 255
    )


def own_loss(xp, outputs, labels, *, batch_size):
    loss_sum, correct, grad = LOSSES["softmax_cross_entropy"](xp, outputs, labels, batch_size=batch_size)
    return 2 * loss_sum, correct, 2 * grad


def double(xp, x):  # noqa: ARG001
    return 2 * x


def double_backward(xp, grad_y, y):  # noqa: ARG001
    return 2 * grad_y


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_linear_and_backward(backend, generic, activation):
    generator = np.random.default_rng(5)
    x, weight, bias = generator.normal(size=(7, 5)), generator.normal(size=(5, 4)), generator.normal(size=4)
    y = backend.linear(x, weight, bias, activation=activation)
    np.testing.assert_allclose(y, generic.linear(x, weight, bias, activation=activation), rtol=1e-12)
    grad_y = generator.normal(size=(7, 4))
    before = grad_y.copy()
    ours = backend.linear_backward(grad_y, y, x, weight, activation=activation)
    for a, b in zip(ours, generic.linear_backward(grad_y, y, x, weight, activation=activation), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    np.testing.assert_array_equal(grad_y, before)
    assert backend.linear_backward(grad_y, y, x, weight, activation=activation, need_grad_x=False)[0] is None


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_nan_goes_through_every_activation(backend, activation):
    y = backend.linear(np.array([[np.nan]]), np.ones((1, 1)), np.zeros(1), activation=activation)
    assert np.isnan(y).all()


LOGITS = {
    "ordinary": np.random.default_rng(6).normal(size=(9, 4)),
    "ties": np.zeros((9, 4)),
    "huge": np.random.default_rng(7).choice([-1e4, 0.0, 1e4], size=(9, 4)),
}


@pytest.mark.parametrize("logits", LOGITS.values(), ids=LOGITS)
def test_loss(backend, generic, logits):
    labels = np.array([0, 1, 2, 3, 0, 1, 2, 3, 7])  # the last is no class
    loss_sum, correct, grad = backend.loss(logits, labels, loss="softmax_cross_entropy", batch_size=11)
    expected = generic.loss(logits, labels, loss="softmax_cross_entropy", batch_size=11)
    np.testing.assert_allclose(loss_sum, expected[0], rtol=1e-12)
    assert np.isfinite(loss_sum)
    assert correct == expected[1]
    np.testing.assert_allclose(grad, expected[2], rtol=1e-12, atol=1e-15)


OUTPUTS = LOGITS | {
    "infinite": np.random.default_rng(7).choice([-np.inf, 0.5, np.inf], size=(9, 4)),
    "not a number": np.where(np.random.default_rng(7).random((9, 4)) < 0.2, np.nan, 1.0),
    "many": np.zeros((9, 1500)),  # the product of 1500 twos is beyond float64
    "one": np.random.default_rng(8).normal(size=(9, 1)),
}


@pytest.mark.parametrize("outputs", OUTPUTS.values(), ids=OUTPUTS)
@pytest.mark.parametrize("loss", ["sigmoid_cross_entropy", "squared_error"])
@pytest.mark.parametrize("weights", [None, np.arange(9) / 4], ids=["alike", "weighted"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_losses_of_numbers(backend, generic, outputs, loss, weights, dtype):
    labels = np.random.default_rng(9).integers(0, 2, outputs.shape).astype(np.float64)
    arguments, named = (outputs.astype(dtype), labels), {"loss": loss, "batch_size": 11.5, "weights": weights}
    with np.errstate(all="ignore"):
        loss_sum, correct, grad = backend.loss(*arguments, **named)
        expected = generic.loss(*arguments, **named)
    np.testing.assert_allclose(loss_sum, expected[0], rtol=1e-12)
    assert correct == expected[1]
    assert grad.dtype == dtype
    np.testing.assert_allclose(grad, expected[2], rtol=1e-12 if dtype == "float64" else 1e-6, atol=1e-40)


@pytest.mark.parametrize("logits", LOGITS.values(), ids=LOGITS)
def test_a_weighted_loss_of_classes(backend, generic, logits):
    labels, weights = np.array([0, 1, 2, 3, 0, 1, 2, 3, 7]), np.arange(9) / 4
    named = {"loss": "softmax_cross_entropy", "batch_size": 11.5, "weights": weights}
    loss_sum, correct, grad = backend.loss(logits, labels, **named)
    expected = generic.loss(logits, labels, **named)
    np.testing.assert_allclose(loss_sum, expected[0], rtol=1e-12)
    assert correct == expected[1]
    np.testing.assert_allclose(grad, expected[2], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("loss", list(LOSSES))
def test_labels_of_another_shape_never_reach_the_kernels(backend, generic, loss):
    """They fit by broadcasting, or not at all."""
    outputs, labels = np.ones((4, 3)), np.zeros((1, 3)) if loss != "softmax_cross_entropy" else np.zeros(1, dtype=int)
    ours, theirs = (b.loss(outputs, labels, loss=loss, batch_size=4) for b in (backend, generic))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("loss", list(LOSSES))
def test_a_large_evaluation_goes_through_the_kernels(backend, generic, monkeypatch, loss):
    from xpnn.backends import Layer, numba_backend

    monkeypatch.setattr(numba_backend, "FORWARD_WORK", 0)
    generator = np.random.default_rng(3)
    layers = [Layer(generator.normal(size=(6, 3)), generator.normal(size=3), "identity")]
    labels = generator.integers(0, 3, 23) if loss == "softmax_cross_entropy" else generator.integers(0, 2, (23, 3))
    rows = backend.place(generator.integers(0, 256, (23, 6)).astype(np.uint8), labels, 1 / 255)
    ours, theirs = (b.evaluate(layers, rows, loss=loss) for b in (backend, generic))
    assert ours.loss_sum == pytest.approx(theirs.loss_sum, rel=1e-12)
    assert ours[1:] == theirs[1:]


@pytest.mark.parametrize("place", [0, 1, 3])
def test_nan_shows_in_the_loss(backend, generic, place):
    logits = np.random.default_rng(6).normal(size=(1, 4))
    logits[0, place] = np.nan
    for label in range(4):
        arguments = (logits, np.array([label]))
        loss_sum, correct, grad = backend.loss(*arguments, loss="softmax_cross_entropy", batch_size=1)
        assert np.isnan(loss_sum)
        assert np.isnan(grad).all()
        assert correct == generic.loss(*arguments, loss="softmax_cross_entropy", batch_size=1)[1] == (label == place)


@pytest.mark.parametrize("rule", list(RULES))
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_update_is_in_place(backend, generic, rule, l2):
    optimizer, generator = RULES[rule], np.random.default_rng(8)
    ours = theirs = generator.normal(size=(5, 4))
    ours = ours.copy()
    state, expected = optimizer.init(np, ours), optimizer.init(np, theirs)
    for step in (1, 2, 3):
        grad, now = generator.normal(size=(5, 4)), {"step": step, "learning_rate": 0.1 / step, "l2": l2}
        result, state = backend.update(optimizer, ours, grad, state, **now)
        assert result is ours
        theirs, expected = generic.update(optimizer, theirs, grad, expected, **now)
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
        for slot, array in expected.items():
            np.testing.assert_allclose(state[slot], array, rtol=1e-12)


def test_update_of_arrays_that_are_not_flat(backend):
    parameter, grad = np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.ones((2, 3))
    before = parameter.copy()
    result, _ = backend.update(SGD(0.5), parameter, grad, {}, step=1, learning_rate=0.5)
    np.testing.assert_array_equal(result, before - 0.5)


@pytest.mark.parametrize("index", [slice(3, 9), np.array([4, 0, 22, 4])], ids=["slice", "array"])
@pytest.mark.parametrize("images", ["uint8", "int32", "float32", "float64"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_gather(backend, generic, index, images, dtype):
    rows = make_rows(backend, dtype=images)
    x, labels = backend.gather(rows, index, np.dtype(dtype))
    expected, expected_labels = generic.gather(rows, index, np.dtype(dtype))
    assert x.dtype == dtype
    np.testing.assert_array_equal(x, expected)  # equal to the last bit: no float64 in between
    np.testing.assert_array_equal(labels, expected_labels)


def test_gather_refuses_rows_that_do_not_exist(backend):
    with pytest.raises(ConfigError, match=r"must be in \[0, 23\), got 23 at position 1"):
        backend.gather(make_rows(backend), np.array([0, 23]), np.dtype(np.float32))


def test_operations_on_other_types_are_the_generic_ones(backend, generic, monkeypatch):
    monkeypatch.setitem(ACTIVATIONS, "own", Activation(double, double_backward))
    generator = np.random.default_rng(9)
    for dtype, activation in ((np.float16, "relu"), (np.float64, "own")):
        x, weight, bias = (generator.normal(size=shape).astype(dtype) for shape in ((4, 3), (3, 2), 2))
        y = backend.linear(x, weight, bias, activation=activation)
        np.testing.assert_array_equal(y, generic.linear(x, weight, bias, activation=activation))
        ours = backend.linear_backward(y, y, x, weight, activation=activation)
        for a, b in zip(ours, generic.linear_backward(y, y, x, weight, activation=activation), strict=True):
            np.testing.assert_array_equal(a, b)
    monkeypatch.setitem(LOSSES, "own", own_loss)
    logits, labels = generator.normal(size=(4, 3)), np.array([0, 1, 2, 0])
    ours, theirs = (b.loss(logits, labels, loss="own", batch_size=4) for b in (backend, generic))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_put_lays_rows_one_after_the_other(backend):
    array = np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    placed = backend.put(array)
    assert placed.flags.c_contiguous
    assert placed.dtype == np.uint8
    assert not np.shares_memory(placed, array)
    np.testing.assert_array_equal(placed, array)
    np.testing.assert_array_equal(backend.to_numpy(placed), array)


# Getting it


def test_without_numba_the_install_line_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(BackendUnavailable, match=r"cannot import numba") as caught:
        NumbaBackend()
    (requirement,) = (each for each in requires("xpnn") if each.startswith("numba"))
    assert str(caught.value).endswith(f': pip install "{requirement}"')
    monkeypatch.setattr("importlib.metadata.requires", lambda name: ["numpy>=2.0", f"numba>=9 for {name}"])
    with pytest.raises(BackendUnavailable, match=r'pip install "numba>=9 for xpnn"$'):
        NumbaBackend()
