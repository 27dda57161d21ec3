"""Losses: numbers worked out by hand, the far ends, and what must not change them."""

import math

import numpy as np
import pytest
from xpnn.backends import LOSSES, SGD, TrainingJob, log_softmax

LN2, LN3, LN5, LN10 = (math.log(number) for number in (2, 3, 5, 10))


@pytest.fixture
def loss_of(backend):
    """`loss_of(logits, labels)`: summed loss, correct rows and gradient on the host."""

    def run(logits, labels, *, name="softmax_cross_entropy", batch_size=None, dtype="float64"):
        logits, labels = np.array(logits, dtype), np.array(labels, np.int64)
        results = backend.loss(
            backend.put(logits), backend.put(labels), loss=name, batch_size=batch_size or len(logits)
        )
        loss_sum, correct, grad = (backend.to_numpy(each) for each in results)
        return float(loss_sum), int(correct), grad

    return run


def test_log_softmax_by_hand():
    """exp(0), exp(ln 2), exp(ln 3) are 1, 2, 3 and sum to 6."""
    result = log_softmax(np, np.array([[0.0, LN2, LN3], [0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(np.exp(result), [[1 / 6, 2 / 6, 3 / 6], [1 / 3, 1 / 3, 1 / 3]], rtol=1e-15)


def test_log_softmax_is_finite_far_out():
    result = log_softmax(np, np.array([[1e4, -1e4, 0.0]], "float32"))
    assert result.dtype == np.float32
    assert result.tolist() == [[0.0, -2e4, -1e4]]


def test_softmax_cross_entropy_by_hand(loss_of):
    """Row 0: p = (1, 2, 3)/6, label 2: loss ln 2, correct. Row 1: p = (1, 5, 4)/10, label 0: loss ln 10, wrong."""
    loss_sum, correct, grad = loss_of([[0.0, LN2, LN3], [0.0, LN5, 2 * LN2]], [2, 0])
    assert loss_sum == pytest.approx(LN2 + LN10, rel=1e-15)
    assert correct == 1
    np.testing.assert_allclose(
        grad, [[1 / 12, 1 / 6, -1 / 4], [-9 / 20, 1 / 4, 1 / 5]], rtol=1e-14
    )  # (p - one_hot) / 2 rows


def test_the_gradient_is_of_the_mean_over_the_whole_batch(loss_of):
    """Two rows that are a tile of a batch of eight."""
    loss_sum, _, grad = loss_of([[0.0, LN3], [LN3, 0.0]], [0, 0], batch_size=8)
    assert loss_sum == pytest.approx(2 * LN2 + math.log(4 / 3), rel=1e-15)
    np.testing.assert_allclose(grad, [[-3 / 32, 3 / 32], [-1 / 32, 1 / 32]], rtol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_logits_of_ten_thousand_are_finite_and_right(loss_of, dtype):
    logits = [[1e4, -1e4], [1e4, -1e4], [-1e4, -1e4], [1e4, 1e4]]
    loss_sum, correct, grad = loss_of(logits, [0, 1, 1, 0], batch_size=1, dtype=dtype)
    assert loss_sum == pytest.approx(0 + 2e4 + 2 * LN2, rel=1e-7)
    assert correct == 2
    assert grad.tolist() == [[0.0, 0.0], [1.0, -1.0], [0.5, -0.5], [-0.5, 0.5]]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shift", [3.0, -1000.0, 1e4])
def test_adding_the_same_number_to_all_logits_of_a_row_changes_nothing(loss_of, name, shift):
    logits, labels = np.random.default_rng(0).normal(size=(6, 4)), [0, 1, 2, 3, 0, 1]
    loss_sum, correct, grad = loss_of(logits, labels, name=name)
    shifted_sum, shifted_correct, shifted_grad = loss_of(logits + shift, labels, name=name)
    assert shifted_sum == pytest.approx(loss_sum, rel=1e-11)
    assert shifted_correct == correct
    np.testing.assert_allclose(shifted_grad, grad, atol=1e-11)


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_of_each_row_sums_to_zero(loss_of, name):
    _, _, grad = loss_of(np.random.default_rng(0).normal(size=(6, 4)) * 5, [0, 1, 2, 3, 0, 1], name=name)
    np.testing.assert_allclose(grad.sum(axis=1), 0, atol=1e-16)


@pytest.mark.parametrize("name", LOSSES)
def test_rows_and_their_order_do_not_touch_each_other(loss_of, name):
    logits, labels = np.random.default_rng(0).normal(size=(4, 3)), np.array([0, 1, 2, 0])
    single = [loss_of(logits[k : k + 1], labels[k : k + 1], name=name, batch_size=4) for k in range(4)]
    loss_sum, correct, grad = loss_of(logits, labels, name=name)
    assert loss_sum == pytest.approx(sum(each[0] for each in single), rel=1e-14)
    assert correct == sum(each[1] for each in single)
    np.testing.assert_allclose(grad, np.concatenate([each[2] for each in single]), rtol=1e-14)


@pytest.mark.parametrize("name", LOSSES)
def test_not_a_number_shows_in_loss_and_gradient(loss_of, name):
    loss_sum, _, grad = loss_of([[0.0, np.nan], [0.0, 1.0]], [0, 1], name=name)
    assert math.isnan(loss_sum)
    assert np.isnan(grad[0]).all()
    assert not np.isnan(grad[1]).any()


@pytest.mark.parametrize("name", LOSSES)
def test_a_single_class_has_no_loss(loss_of, name):
    loss_sum, correct, grad = loss_of([[3.0], [-2.0]], [0, 0], name=name)
    assert (loss_sum, correct, grad.tolist()) == (0.0, 2, [[0.0], [0.0]])


def test_a_new_row_of_the_table_trains_on_every_backend(backend, make_layers, small_problem, monkeypatch):
    """Half the squared distance to the label in place of class 0; its gradient with respect to the outputs by hand."""

    def squared(xp, outputs, labels, *, batch_size):
        error = outputs[:, 0] - xp.astype(labels, outputs.dtype)  # (rows,)
        grad = xp.concat([error[:, None] / batch_size, xp.zeros_like(outputs[:, 1:])], axis=1)  # (rows, classes)
        return xp.sum(error * error, dtype=xp.float64) / 2, xp.sum(xp.astype(error == 0, labels.dtype)), grad

    monkeypatch.setitem(LOSSES, "squared", squared)
    layers = make_layers(backend, (6, 3))
    weight, bias = (backend.to_numpy(array) for array in (layers[0].weight, layers[0].bias))
    images, labels = small_problem
    plan = backend.compile(
        TrainingJob(layers, SGD(0.1), backend.place(images, labels, 1 / 255), len(images), loss="squared")
    )
    totals = plan.run()
    x = images / 255
    error = x @ weight[:, 0] + bias[0] - labels
    assert totals.loss_sum == pytest.approx((error**2).sum() / 2, rel=1e-12)
    weight[:, 0] -= 0.1 * x.T @ error / len(x)
    np.testing.assert_allclose(backend.to_numpy(layers[0].weight), weight, rtol=1e-12)
