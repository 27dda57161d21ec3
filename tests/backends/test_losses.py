"""Losses: numbers worked out by hand, the far ends, and what must not change them.

That every backend has the same numbers, in its operation and in its plan, is in the contract.
"""

import math

import numpy as np
import pytest
from mpmath import mp
from xpnn.backends import LOSSES, SGD, ConfigError, log_softmax, softmax
from xpnn.backends.losses import loss_function, parse_loss, smoothed
from xpnn.backends.testing.problem import layers_of, training_job
from xpnn.nn.network.outputs import OUTPUTS

LN2, LN3, LN5, LN10 = (math.log(number) for number in (2, 3, 5, 10))
CLASSES = 5
DIGITS = {"float32": 1e-6, "float64": 1e-12}  # of a loss, relative; and of a gradient, whose numbers are up to 1

both_types = pytest.mark.parametrize("dtype", list(DIGITS))


@pytest.fixture
def loss_of(generic):
    """`loss_of(logits, labels)`: summed loss, correct rows and gradient."""

    def run(logits, labels, *, name="softmax_cross_entropy", batch_size=None, dtype="float64"):
        logits, labels = np.array(logits, dtype), np.array(labels)
        return generic.loss(logits, labels, loss=name, batch_size=batch_size or len(logits))

    return run


def test_log_softmax_by_hand():
    """exp(0), exp(ln 2), exp(ln 3) are 1, 2, 3 and sum to 6."""
    result = log_softmax(np, np.array([[0.0, LN2, LN3], [0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(np.exp(result), [[1 / 6, 2 / 6, 3 / 6], [1 / 3, 1 / 3, 1 / 3]], rtol=1e-15)


def test_log_softmax_is_finite_far_out():
    result = log_softmax(np, np.array([[1e4, -1e4, 0.0], [3e38, -3e38, 1e30]], "float32"))
    assert result.dtype == np.float32
    assert result.tolist() == [[0.0, -2e4, -1e4], [0.0, np.finfo("float32").min, np.float32(-3e38)]]


def test_softmax_cross_entropy_by_hand(loss_of):
    """Row 0: p = (1, 2, 3)/6, label 2: loss ln 2, correct. Row 1: p = (1, 5, 4)/10, label 0: loss ln 10, wrong."""
    loss_sum, correct, grad = loss_of([[0.0, LN2, LN3], [0.0, LN5, 2 * LN2]], [2, 0])
    assert loss_sum == pytest.approx(LN2 + LN10, rel=1e-15)
    assert correct == 1
    np.testing.assert_allclose(
        grad, [[1 / 12, 1 / 6, -1 / 4], [-9 / 20, 1 / 4, 1 / 5]], rtol=1e-14
    )  # (p - one_hot) / 2 rows


def test_label_smoothing_by_hand(generic, loss_of):
    """p = (1, 2, 3)/6, label 2; a share of 0.3 makes the target (0.1, 0.1, 0.8)."""
    logits, labels = np.array([[0.0, LN2, LN3]]), np.array([2])
    loss_sum, _, grad = loss_of(logits, labels)
    more, grad = smoothed(generic.xp, logits, labels, grad, label_smoothing=0.3, batch_size=1)
    assert loss_sum + more == pytest.approx(0.1 * (LN2 + LN3) + 0.1 * LN3 + 0.8 * LN2, rel=1e-14)
    np.testing.assert_allclose(grad, [[1 / 6 - 0.1, 2 / 6 - 0.1, 3 / 6 - 0.8]], rtol=1e-14)


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


@pytest.mark.parametrize("shift", [3.0, -1000.0, 1e4])
def test_adding_the_same_number_to_all_logits_of_a_row_changes_nothing(loss_of, shift):
    logits, labels = np.random.default_rng(0).normal(size=(6, 4)), [0, 1, 2, 3, 0, 1]
    loss_sum, correct, grad = loss_of(logits, labels)
    shifted_sum, shifted_correct, shifted_grad = loss_of(logits + shift, labels)
    assert shifted_sum == pytest.approx(loss_sum, rel=1e-11)
    assert shifted_correct == correct
    np.testing.assert_allclose(shifted_grad, grad, atol=1e-11)


def test_the_gradient_of_each_row_sums_to_zero(loss_of):
    _, _, grad = loss_of(np.random.default_rng(0).normal(size=(6, 4)) * 5, [0, 1, 2, 3, 0, 1])
    np.testing.assert_allclose(grad.sum(axis=1), 0, atol=1e-16)


@pytest.mark.parametrize("name", LOSSES)
def test_rows_and_their_order_do_not_touch_each_other(loss_of, labels_for, name):
    logits, labels = np.random.default_rng(0).normal(size=(4, 3)), labels_for(name, np.array([0, 1, 2, 0]), 3)
    single = [loss_of(logits[k : k + 1], labels[k : k + 1], name=name, batch_size=4) for k in range(4)]
    loss_sum, correct, grad = loss_of(logits, labels, name=name)
    assert loss_sum == pytest.approx(sum(each[0] for each in single), rel=1e-14)
    assert correct == sum(each[1] for each in single)
    np.testing.assert_allclose(grad, np.concatenate([each[2] for each in single]), rtol=1e-14)


def test_a_single_class_has_no_loss(loss_of):
    loss_sum, correct, grad = loss_of([[3.0], [-2.0]], [0, 0])
    assert (loss_sum, correct, grad.tolist()) == (0.0, 2, [[0.0], [0.0]])


# Against mpmath


def extreme_rows(dtype):
    """Rows of five logits and their labels: all magnitudes, and no label is 4."""
    generator, limits = np.random.default_rng(7), np.finfo(dtype)
    scales = [*10.0 ** np.arange(-3, 5), 20, 50, 1e30, float(limits.max) / 16]
    numbers = [generator.normal(size=(4, CLASSES)) * scale for scale in scales]
    sure = 3 * generator.normal(size=(24, CLASSES))  # of one class, to any degree
    sure[:, 1] += np.linspace(10, 75, 24)
    numbers.append(sure)
    tiny = float(limits.smallest_subnormal)
    numbers.append(
        [
            [20, 0, -3, -50, 1],  # confident: log1p(e^-20 + ...), of which 1 + e^-20 leaves nothing in float32
            [20.3, -0.29, -3.3, -50.7, 1.1],
            [-60.3, 0.29, -75.9, -50.7, -45.1],
            [-0.1, 85.7, 0.7, -0.3, 1.9],
            [0, 0, 0, 0, 0],
            [7.3] * CLASSES,
            [1e30] * CLASSES,
            [-1e30] * CLASSES,
            [3, 3, -5, 3, 2],  # of several largest only one leaves the sum
            [1e30, 1e30, 0, -1e30, 1e4],
            [1e30, -1e30, 1e-30, 0, 1],
            [1e4, -1e4, 0, 1e4, 9990],
            [tiny, -tiny, 3 * tiny, 0, 1000 * tiny],
            [tiny, 20, 0, -tiny, 0],
            [float(limits.max) / 4, -float(limits.max) / 4, 0, 1, 1e30],
        ]
    )
    logits = np.concatenate(numbers).astype(dtype)  # (rows, 5)
    labels = generator.integers(0, CLASSES - 1, len(logits))  # (rows,)
    confident = np.argmax(logits[:, :-1], axis=1)
    return logits, np.where(np.arange(len(logits)) % 3 > 0, confident, labels)


def exact(row, label):
    """The loss of a row of logits, and its gradient (classes,): `p - one_hot`, where `-log p = log1p(rest)`."""
    with mp.workprec(140):
        z = [mp.mpf(float(each)) for each in row]
        e = [mp.exp(each - z[label]) for each in z]
        rest = mp.fsum(each for k, each in enumerate(e) if k != label)
        grad = [(-rest if k == label else each) / (1 + rest) for k, each in enumerate(e)]
        return float(mp.log1p(rest)), np.array([float(each) for each in grad])


def assert_exact(dtype, logits, labels, losses, grads):
    """Assert that the losses (rows,) and the gradients (rows, classes) of single rows are mpmath's."""
    least = logits.shape[1] * float(np.finfo(dtype).tiny)  # terms of the sum that are no normal numbers may be 0
    for k, (row, label, loss, grad) in enumerate(zip(logits, labels, losses, grads, strict=True)):
        expected_loss, expected_grad = exact(row, label)
        assert loss == pytest.approx(expected_loss, rel=DIGITS[dtype], abs=least), (k, row, label)
        np.testing.assert_allclose(grad, expected_grad, rtol=0, atol=DIGITS[dtype], err_msg=f"row {k}: {row}, {label}")
        # The label's own, as a rule the largest of them, does not cancel to 0 where the others are small.
        assert grad[label] == pytest.approx(expected_grad[label], rel=DIGITS[dtype], abs=least), (k, row, label)


@both_types
def test_log_softmax_against_mpmath(dtype):
    logits, _ = extreme_rows(dtype)
    for row, result in zip(logits, log_softmax(np, logits), strict=True):
        for label in range(CLASSES):
            loss, _ = exact(row, label)
            loss = min(loss, float(np.finfo(dtype).max))
            assert -result[label] == pytest.approx(loss, rel=DIGITS[dtype], abs=float(np.finfo(dtype).tiny))


@both_types
def test_softmax_against_mpmath(dtype):
    logits, _ = extreme_rows(dtype)
    least = float(np.finfo(dtype).tiny)
    for row, result in zip(logits, softmax(np, logits), strict=True):
        expected = [math.exp(-exact(row, label)[0]) for label in range(CLASSES)]
        assert result.dtype == dtype
        np.testing.assert_allclose(result, expected, rtol=DIGITS[dtype], atol=least)


@both_types
def test_sigmoid_against_mpmath(dtype):
    logits = np.array([-700, -80, -3, -1e-3, 0, 1e-3, 3, 80, 700], dtype)
    expected = [float(1 / (1 + mp.exp(-float(z)))) for z in logits]
    probabilities = OUTPUTS["sigmoid_cross_entropy"].probabilities(np, logits)
    np.testing.assert_allclose(probabilities, expected, rtol=DIGITS[dtype], atol=float(np.finfo(dtype).tiny))


@both_types
def test_loss_and_gradient_against_mpmath(loss_of, dtype):
    logits, labels = extreme_rows(dtype)
    assert set(labels.tolist()) == {0, 1, 2, 3}
    results = [loss_of(logits[k : k + 1], labels[k : k + 1], dtype=dtype) for k in range(len(logits))]
    losses, correct, grads = zip(*results, strict=True)
    assert_exact(dtype, logits, labels, losses, [grad[0] for grad in grads])
    assert list(correct) == (logits.argmax(axis=1) == labels).tolist()
    loss_sum, _, _ = loss_of(logits, labels, dtype=dtype)
    assert loss_sum == pytest.approx(math.fsum(losses), rel=DIGITS[dtype])


def test_a_loss_beyond_float32_is_a_number_all_the_same(loss_of):
    loss_sum, _, grad = loss_of([[3e38, -3e38], [3e38, -3e38]], [1, 0], dtype="float32")
    assert loss_sum == pytest.approx(6e38, rel=1e-6)
    assert grad.tolist() == [[0.5, -0.5], [0, 0]]


def test_a_loss_beyond_float32_in_a_plan(backend):
    """The graphs of CUDA kernels keep a row's loss in the network's type: there it is infinite, which stops a run."""
    for label, loss, grad in ((0, 0.0, [0.0, 0.0]), (1, 6e38, [1.0, -1.0])):
        layers = layers_of(backend, [np.array([[3e38, -3e38]] * 2, "float32"), np.zeros(2, "float32")])
        plan = backend.compile(
            training_job(
                layers, backend.place(np.eye(2, dtype="uint8"), np.arange(2), 1.0), optimizer=SGD(1.0), batch_size=2
            )
        )
        with np.errstate(over="ignore", invalid="ignore"):  # of Numba's kernels as plain Python
            loss_sum = plan.run(np.array([label])).loss_sum
        assert loss_sum == pytest.approx(loss, rel=1e-6) or (backend.name == "cupy" and loss_sum == math.inf)
        assert backend.to_numpy(layers[0].bias).tolist() == [-grad[0], -grad[1]]


@both_types
@pytest.mark.parametrize("classes", [1, 2, 10, 40])
def test_rows_of_any_length_against_mpmath(loss_of, dtype, classes):
    generator = np.random.default_rng(8)
    logits = (generator.normal(size=(20, classes)) * 10.0 ** generator.uniform(-3, 4, (20, 1))).astype(dtype)
    labels = np.where(np.arange(20) % 2, logits.argmax(axis=1), generator.integers(0, classes, 20))
    results = [loss_of(logits[k : k + 1], labels[k : k + 1], dtype=dtype) for k in range(20)]
    losses, _, grads = zip(*results, strict=True)
    assert_exact(dtype, logits, labels, losses, [grad[0] for grad in grads])


def test_every_loss_says_what_its_outputs_mean():
    assert OUTPUTS.keys() == LOSSES.keys()


def test_sigmoid_cross_entropy_by_hand(loss_of):
    """p = 3/4 and 1/2; labels 1, 0: losses ln 4/3 and ln 2. The second row has both wrong: p = 1/4, 2/3."""
    logits, labels = [[LN3, 0.0], [-LN3, LN2]], [[1.0, 0.0], [1.0, 0.0]]
    loss_sum, correct, grad = loss_of(logits, labels, name="sigmoid_cross_entropy")
    assert loss_sum == pytest.approx(math.log(4 / 3) + LN2 + math.log(4) + LN3, rel=1e-15)
    assert correct == 1
    np.testing.assert_allclose(grad, [[-1 / 8, 1 / 4], [-3 / 8, 1 / 3]], rtol=1e-14)


@both_types
def test_sigmoid_cross_entropy_keeps_its_digits_far_out(loss_of, dtype):
    """At z = 30 a label of 1 has the loss log1p(e^-30) and the gradient -e^-30 / (1 + e^-30): 1 - p would lose it."""
    logits, labels = [[30.0, -30.0, 1e4, -1e4]], [[1.0, 0.0, 0.0, 1.0]]
    loss_sum, _, grad = loss_of(logits, labels, name="sigmoid_cross_entropy", dtype=dtype)
    assert loss_sum == pytest.approx(2e4 + 2 * math.log1p(math.exp(-30)), rel=DIGITS[dtype])
    small = math.exp(-30) / (1 + math.exp(-30))
    np.testing.assert_allclose(grad, [[-small, small, 1.0, -1.0]], rtol=DIGITS[dtype])
    alone, _, _ = loss_of([[30.0]], [[1.0]], name="sigmoid_cross_entropy", dtype=dtype)
    assert alone == pytest.approx(math.exp(-30), rel=DIGITS[dtype])


def test_squared_error_by_hand(loss_of):
    """Errors 1, -2 and 0, 3: (1 + 4)/2 + 9/2 = 7."""
    loss_sum, correct, grad = loss_of([[2.0, 0.0], [0.5, 4.0]], [[1.0, 2.0], [0.5, 1.0]], name="squared_error")
    assert (loss_sum, correct) == (7.0, 0)
    assert grad.tolist() == [[0.5, -1.0], [0.0, 1.5]]


LOSSES_BY_HAND = {  # of errors 2, -0.25 and 0 of one row: losses and slopes
    "absolute_error": ([2.0, 0.25, 0.0], [1.0, -1.0, 0.0]),
    "huber": ([1.5, 0.03125, 0.0], [1.0, -0.25, 0.0]),
    "huber:0.125": ([0.2421875, 0.0234375, 0.0], [0.125, -0.125, 0.0]),
    "quantile": ([1.0, 0.125, 0.0], [0.5, -0.5, 0.0]),
    "quantile:0.75": ([0.5, 0.1875, 0.0], [0.25, -0.75, 0.0]),
}


@pytest.mark.parametrize("name", LOSSES_BY_HAND)
def test_robust_losses_by_hand(loss_of, name):
    losses, slopes = LOSSES_BY_HAND[name]
    loss_sum, correct, grad = loss_of([[3.0, 0.75, 5.0]], [[1.0, 1.0, 5.0]], name=name, batch_size=2)
    assert (loss_sum, correct) == (sum(losses), 0)
    assert (2 * grad).tolist() == [slopes]


def test_poisson_by_hand(loss_of):
    """Means 3 and 1 for counts 2 and 0: 1 - 2 log(3/2), and 1; and a mean that is right costs nothing."""
    loss_sum, _, grad = loss_of([[LN3, 0.0, LN5]], [[2.0, 0.0, 5.0]], name="poisson")
    assert loss_sum == pytest.approx(1 - 2 * math.log(1.5) + 1, rel=1e-14)
    np.testing.assert_allclose(grad, [[1.0, 1.0, 0.0]], atol=1e-14)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hubert", "did you mean 'huber'"),
        ("huber:", "takes a number, as in 'huber:1.0'"),
        ("huber:0", "delta of the loss huber must be a finite number > 0, got 0.0"),
        ("quantile:1", r"level of the loss quantile must be a number in \(0, 1\), got 1.0"),
        ("quantile:nan", "level of the loss quantile"),
        ("squared_error:2", "has no parameter"),
        (None, "unknown loss"),
    ],
)
def test_a_wrong_name_or_parameter_is_refused(name, words):
    with pytest.raises(ConfigError, match=words):
        parse_loss(name)


def test_a_loss_with_its_parameter_is_one_object_for_compilers():
    assert loss_function("quantile:0.90") is loss_function("quantile:0.9") is not loss_function("quantile:0.8")
