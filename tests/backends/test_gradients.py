"""The generic plan's steps against central differences of the loss, and the optimizers against their formulas.

That every backend's plan takes the same steps is in the contract.

The numeric gradient is that of the whole objective: mean loss plus the penalty. All of it is float64. A kink (of ReLU
at 0) would spoil a central difference, so the start is chosen, and then asserted, to keep every pre-activation away
from 0 by far more than a difference moves it.
"""

import itertools
import math

import array_api_compat.numpy as xp
import numpy as np
import pytest
from xpnn.backends import (
    ACTIVATIONS,
    LOSSES,
    OPTIMIZERS,
    SGD,
    Adam,
    AdamW,
    Optimizer,
    RMSprop,
)
from xpnn.backends.testing.problem import covering, layers_of, training_job

ROWS, FEATURES, CLASSES = 5, 4, 3
DEPTHS = {1: (FEATURES, 3, CLASSES), 2: (FEATURES, 4, 3, CLASSES), 3: (FEATURES, 3, 4, 3, CLASSES)}
SCALE = 1 / 255
DIFFERENCE = 1e-5  # half-width of a central difference
MARGIN = 2e-3  # of every pre-activation from 0; a difference moves it by about 1e-5
CENTRAL = 1e-6  # relative error that is allowed

GENERATOR = np.random.default_rng(8)
IMAGES = GENERATOR.integers(0, 256, (ROWS, FEATURES), dtype=np.uint8)  # (rows, features)
LABELS = np.array([0, 2, 1, 2, 0])  # (rows,)
LABELS_OF = {  # of each loss
    "softmax_cross_entropy": LABELS,
    "sigmoid_cross_entropy": np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [0, 0, 1]], float),
}
NUMBERS = np.array([[0.5, -1, 2], [1, 0, 0.25], [-2, 1.5, 1], [0, 0.75, -0.5], [3, 0, -1]])
LABELS_OF |= dict.fromkeys(["squared_error", "absolute_error", "huber", "quantile"], NUMBERS)
LABELS_OF["poisson"] = np.maximum(NUMBERS, 0)


def pre_activations(parameters, activation):
    """Return z of each layer, the logits last, for weights and biases one after the other."""
    x, result = IMAGES * SCALE, []
    for k, (weight, bias) in enumerate(zip(parameters[::2], parameters[1::2], strict=True)):
        z = np.zeros((ROWS, weight.shape[1]))
        for row, unit in np.ndindex(*z.shape):
            z[row, unit] = sum(x[row, i] * weight[i, unit] for i in range(weight.shape[0])) + bias[unit]
        result.append(z)
        last = k == len(parameters) // 2 - 1
        x = z if last else ACTIVATIONS[activation].forward(np, z)
    return result


def objective(parameters, activation, loss, l2):
    """Mean loss of the rows plus `l2 / 2` times the squares of the weights, biases left out."""
    x = IMAGES * SCALE
    for k, (weight, bias) in enumerate(zip(parameters[::2], parameters[1::2], strict=True)):
        x = x @ weight + bias
        if k < len(parameters) // 2 - 1:
            x = ACTIVATIONS[activation].forward(np, x)
    loss_sum, _, _ = LOSSES[loss](xp, x, LABELS_OF[loss], batch_size=1)
    return loss_sum / ROWS + l2 / 2 * sum((weight**2).sum() for weight in parameters[::2])


def numeric_gradients(parameters, activation, loss, l2=0.0):
    """Central differences of the objective, in the shapes of the parameters."""
    hidden = pre_activations(parameters, activation)[:-1]
    has_kink = activation in ("relu", "leaky_relu")
    assert not has_kink or min(np.abs(z).min() for z in hidden) > MARGIN, "a kink is too near"
    gradients = []
    for array in parameters:
        gradient = np.zeros_like(array)
        for index in np.ndindex(*array.shape):
            kept = array[index]
            array[index] = kept + DIFFERENCE
            above = objective(parameters, activation, loss, l2)
            array[index] = kept - DIFFERENCE
            below = objective(parameters, activation, loss, l2)
            array[index] = kept
            gradient[index] = (above - below) / (2 * DIFFERENCE)
        gradients.append(gradient)
    return gradients


def start(sizes, activation, margin=2.5 * MARGIN):
    """The first draw of weights and biases whose pre-activations all stay away from 0."""
    for seed in itertools.count():
        generator = np.random.default_rng(seed)
        parameters = []
        for in_features, out_features in itertools.pairwise(sizes):
            parameters.append(generator.normal(0, 1, (in_features, out_features)))
            parameters.append(generator.normal(0, 0.5, out_features))
        hidden = pre_activations(parameters, activation)[:-1]
        alive = all((z > 0).any(axis=0).all() for z in hidden)  # a unit that no row wakes would have no gradient
        if alive and min(np.abs(z).min() for z in hidden) > margin:
            return parameters
    raise AssertionError


@pytest.fixture
def run_steps(generic, weights_of):
    """`run_steps(parameters, activation, ...)`: the parameters after full-batch steps."""

    def run(parameters, activation, loss, optimizer, *, steps=1, l2=0.0, batch_size=ROWS):
        layers = layers_of(generic, parameters, activation=activation)
        rows = generic.place(IMAGES, LABELS_OF[loss], SCALE)
        plan = generic.compile(training_job(layers, rows, optimizer=optimizer, batch_size=batch_size, loss=loss, l2=l2))
        for _ in range(steps):
            plan.run()
        return weights_of(generic, layers)

    return run


def cases(**axes):
    """A test for each case of a covering array."""
    rows = [tuple(case[name] for name in axes) for case in covering(**axes)]
    return pytest.mark.parametrize(tuple(axes), rows)


@cases(activation=list(ACTIVATIONS), loss=list(LOSSES), depth=list(DEPTHS), l2=[0.0, 0.1])
def test_a_step_of_plain_descent_is_the_gradient(run_steps, activation, loss, depth, l2):
    before = start(DEPTHS[depth], activation)
    after = run_steps(before, activation, loss, SGD(1.0), l2=l2)
    expected = numeric_gradients(before, activation, loss, l2)
    for was, now, gradient in zip(before, after, expected, strict=True):
        size = np.linalg.norm(gradient)
        assert size > 1e-4
        assert np.linalg.norm((was - now) - gradient) < CENTRAL * size


def test_the_start_is_checked_for_kinks():
    parameters = start(DEPTHS[1], "relu")
    parameters[1][0] -= pre_activations(parameters, "relu")[0][2, 0]  # moves row 2 of unit 0 to exactly 0
    with pytest.raises(AssertionError, match="a kink is too near"):
        numeric_gradients(parameters, "relu", "softmax_cross_entropy")


# The optimizers, number by number, as their papers give them


def descent(p, g, _memory, _t, o):
    return p - o["learning_rate"] * g


def momentum(p, g, memory, _t, o):
    memory["v"] = o["momentum"] * memory.get("v", 0.0) + g
    return p - o["learning_rate"] * memory["v"]


def nesterov(p, g, memory, _t, o):
    """Sutskever's step, with the parameter kept at the point that looks ahead."""
    memory["v"] = o["momentum"] * memory.get("v", 0.0) + g
    return p - o["learning_rate"] * (g + o["momentum"] * memory["v"])


def rmsprop(p, g, memory, _t, o):
    memory["s"] = o["decay"] * memory.get("s", 0.0) + (1 - o["decay"]) * g**2
    return p - o["learning_rate"] * g / (math.sqrt(memory["s"]) + o["epsilon"])


def adam(p, g, memory, t, o):
    memory["m"] = o["beta_1"] * memory.get("m", 0.0) + (1 - o["beta_1"]) * g
    memory["v"] = o["beta_2"] * memory.get("v", 0.0) + (1 - o["beta_2"]) * g**2
    m_hat = memory["m"] / (1 - o["beta_1"] ** t)
    v_hat = memory["v"] / (1 - o["beta_2"] ** t)
    return p - o["learning_rate"] * m_hat / (math.sqrt(v_hat) + o["epsilon"])


def adamw(p, g, memory, t, o):
    return adam(p, g, memory, t, o) - o["learning_rate"] * o["weight_decay"] * p


CASES = {
    "sgd": (SGD(0.02), descent),
    "momentum": (SGD(0.02, momentum=0.8), momentum),
    "nesterov": (SGD(0.02, momentum=0.8, nesterov=True), nesterov),
    "rmsprop": (RMSprop(0.005, decay=0.7, epsilon=1e-3), rmsprop),
    "adam": (Adam(0.005, beta_1=0.8, beta_2=0.95, epsilon=1e-3), adam),
    "adamw": (AdamW(0.005, beta_1=0.8, beta_2=0.95, epsilon=1e-3, weight_decay=0.2), adamw),
}
STEPS = 3


def expected_steps(case, activation, loss, l2):
    """The parameters at the start, and after some steps of the formula from numeric gradients."""
    optimizer, formula = CASES[case]
    settings = optimizer.settings()
    before = start(DEPTHS[1], activation, margin=0.1)
    parameters = [array.copy() for array in before]
    memories = [[{} for _ in array.flat] for array in parameters]
    for t in range(1, STEPS + 1):
        gradients = numeric_gradients(parameters, activation, loss, l2)
        for array, gradient, memory in zip(parameters, gradients, memories, strict=True):
            pairs = zip(array.flat, gradient.flat, memory, strict=True)
            array.flat = [formula(float(p), float(g), own, t, settings) for p, g, own in pairs]
    return before, parameters


def test_every_optimizer_has_its_formula_here():
    assert {type(optimizer) for optimizer, _ in CASES.values()} == set(OPTIMIZERS.values())


@cases(case=list(CASES), loss=list(LOSSES), l2=[0.0, 0.1])
def test_steps_follow_the_optimizers_formula(run_steps, case, loss, l2):
    activation = "tanh"
    before, expected = expected_steps(case, activation, loss, l2)
    after = run_steps(before, activation, loss, CASES[case][0], steps=STEPS, l2=l2)
    for was, now, then in zip(before, after, expected, strict=True):
        moved = np.linalg.norm(then - was)
        assert moved > 1e-4
        assert np.linalg.norm(now - then) < CENTRAL * moved


def test_the_gradient_of_several_batches_is_taken_batch_by_batch(run_steps):
    """Batches of 2, 2 and 1 rows: each step has the mean over its own rows, the last one over a single row."""
    parameters = start(DEPTHS[1], "tanh")
    by_hand = [array.copy() for array in parameters]
    for rows in (slice(0, 2), slice(2, 4), slice(4, 5)):
        w1, b1, w2, b2 = by_hand
        x, labels = IMAGES[rows] * SCALE, LABELS[rows]  # (batch, features), (batch,)
        hidden = np.tanh(x @ w1 + b1)  # (batch, units)
        e = np.exp(hidden @ w2 + b2)  # (batch, classes)
        grad_logits = (e / e.sum(axis=1, keepdims=True) - np.eye(CLASSES)[labels]) / len(x)
        grad_hidden = grad_logits @ w2.T * (1 - hidden**2)
        gradients = [x.T @ grad_hidden, grad_hidden.sum(axis=0), hidden.T @ grad_logits, grad_logits.sum(axis=0)]
        by_hand = [array - 0.5 * gradient for array, gradient in zip(by_hand, gradients, strict=True)]
    after = run_steps(parameters, "tanh", "softmax_cross_entropy", SGD(0.5), batch_size=2)
    for got, expected in zip(after, by_hand, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


def test_the_formulas_that_are_shown_are_those_of_the_settings():
    assert SGD().formulas() == ("p <- p - lr g",)
    assert SGD(momentum=0.9).formulas() == ("v <- momentum v + g", "p <- p - lr v")
    assert SGD(momentum=0.9, nesterov=True).formulas() == ("v <- momentum v + g", "p <- p - lr (g + momentum v)")
    assert RMSprop().formulas()[-1] == "p <- p - lr g / (sqrt(s) + epsilon)"
    assert Adam().formulas()[-1] == "p <- p - lr m^ / (sqrt(v^) + epsilon)"
    assert Adam(epsilon_hat=True).formulas()[-1] == "p <- p - lr m^ sqrt(1 - beta_2^t) / (sqrt(v) + epsilon)"
    assert AdamW().formulas() == ("p <- p - lr weight_decay p", *Adam().formulas())

    class OwnRule(Optimizer):
        name = "own"

        def update(self, xp, parameter, grad, state, *, step, learning_rate):  # noqa: ARG002
            return parameter, state

    assert OwnRule(0.1).formulas() == ()
    for kind in OPTIMIZERS.values():  # every setting has its place in a formula, under its own name or as `lr`
        optimizer = kind(**({"momentum": 0.9} if kind is SGD else {}))
        text = " ".join(optimizer.formulas())
        choices = ("learning_rate", "nesterov", "epsilon_hat")  # which decide on the formula
        assert all(name in text for name in optimizer.settings() if name not in choices)
        assert "lr" in text
