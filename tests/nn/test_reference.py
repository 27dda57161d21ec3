"""The reference network: a tiny example worked out by hand, numeric gradients, and that the rest agrees with it.

The example has 2 features, 2 hidden units, 2 classes and 2 samples (the columns of X):

    W1 = [1 -1; 2 1]   b1 = [0; -1]   W2 = [ln 3  0; 0  0]   b2 = [0; 0]   X = [1 0; 0 1]   Y = [1, 0]

    Z1 = W1 X + b1 = [1 -1; 2-1  1-1] = [1 -1; 1 0]
    A1 = max(Z1, 0) = [1 0; 1 0]
    Z2 = W2 A1 + b2 = [ln 3  0; 0  0]
    A2 = softmax    = [3/4  1/2; 1/4  1/2]          (e^ln 3 = 3, so 3/(3+1) and 1/(3+1); e^0/(e^0 + e^0) = 1/2)

    one_hot(Y) = [0 1; 1 0]
    dZ2 = A2 - one_hot = [3/4  -1/2; -3/4  1/2]
    dW2 = dZ2 A1^T / 2 = [3/8 3/8; -3/8 -3/8]       (only the first sample has A1 > 0)
    db2 = row sums / 2 = [1/8; -1/8]
    dZ1 = W2^T dZ2 * (Z1 > 0) = [ln3*3/4  0; 0 0]   (the second column of W2 is 0; Z1 = -1 and 0 are cut off)
    dW1 = dZ1 X^T / 2 = [ln3*3/8  0; 0 0]
    db1 = [ln3*3/8; 0]
"""

import itertools
import math

import numpy as np
import pytest
from xpnn import nn
from xpnn.nn import reference

LN3 = math.log(3)
W1, B1 = np.array([[1.0, -1.0], [2.0, 1.0]]), np.array([[0.0], [-1.0]])
W2, B2 = np.array([[LN3, 0.0], [0.0, 0.0]]), np.zeros((2, 1))
X, Y = np.eye(2), np.array([1, 0])
Z1, A1 = np.array([[1.0, -1.0], [1.0, 0.0]]), np.array([[1.0, 0.0], [1.0, 0.0]])
Z2, A2 = np.array([[LN3, 0.0], [0.0, 0.0]]), np.array([[0.75, 0.5], [0.25, 0.5]])
GRADIENTS = (
    np.array([[LN3 * 3 / 8, 0.0], [0.0, 0.0]]),
    np.array([[LN3 * 3 / 8], [0.0]]),
    np.array([[3 / 8, 3 / 8], [-3 / 8, -3 / 8]]),
    np.array([[1 / 8], [-1 / 8]]),
)


def all_close(got, expected, rtol=1e-15, atol=1e-16):
    for one, other in zip(got, expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


# Function by function


def test_init_params():
    params = reference.init_params(300, 20, 7, seed=3)
    w1 = params[0]
    assert [each.shape for each in params] == [(20, 300), (20, 1), (7, 20), (7, 1)]
    for each in params:
        assert each.dtype == np.float64
        assert each.min() >= -0.5
        assert each.max() < 0.5
    assert abs(w1.mean()) < 0.02
    assert w1.std() == pytest.approx(12**-0.5, rel=0.02)
    all_close(reference.init_params(300, 20, 7, seed=3), params)
    assert not np.array_equal(reference.init_params(300, 20, 7, seed=4)[0], w1)
    assert [each.shape for each in reference.init_params()] == [(10, 784), (10, 1), (10, 10), (10, 1)]


def test_relu_and_its_derivative():
    z = np.array([[-2.0, 0.0, 3.0]])
    assert reference.relu(z).tolist() == [[0.0, 0.0, 3.0]]
    assert reference.relu_deriv(z).tolist() == [[0, 0, 1]]


def test_softmax_goes_down_the_columns():
    all_close([reference.softmax(Z2)], [A2])
    far = reference.softmax(np.array([[1e4, -1e4], [-1e4, -1e4]]))
    assert far.tolist() == [[1.0, 0.5], [0.0, 0.5]]


def test_one_hot():
    assert reference.one_hot(np.array([2, 0]), 3).tolist() == [[0, 1], [0, 0], [1, 0]]
    assert reference.one_hot(np.array([9])).shape == (10, 1)
    assert reference.one_hot(np.array([1]), 2).dtype == np.float64


def test_forward_prop_by_hand():
    all_close(reference.forward_prop(W1, B1, W2, B2, X), (Z1, A1, Z2, A2))


def test_backward_prop_by_hand():
    all_close(reference.backward_prop(Z1, A1, A2, W2, X, Y), GRADIENTS)


def test_update_params_by_hand():
    w1, b1, w2, b2 = reference.update_params((W1, B1, W2, B2), GRADIENTS, 8.0)
    all_close([w1], [np.array([[1 - 3 * LN3, -1.0], [2.0, 1.0]])])
    all_close([b1], [np.array([[-3 * LN3], [-1.0]])])
    all_close([w2], [np.array([[LN3 - 3, -3.0], [3.0, 3.0]])])
    all_close([b2], [np.array([[-1.0], [1.0]])])
    assert W1.tolist() == [[1.0, -1.0], [2.0, 1.0]]


def test_predictions_and_accuracy():
    predictions = reference.get_predictions(np.array([[0.2, 0.5, 0.9], [0.8, 0.5, 0.1]]))
    assert predictions.tolist() == [1, 0, 0]
    assert reference.get_accuracy(predictions, np.array([1, 1, 0])) == pytest.approx(2 / 3)


def test_one_iteration_by_hand(capsys):
    result = reference.gradient_descent(X, Y, 8.0, 1, params=(W1, B1, W2, B2))
    all_close(result, reference.update_params((W1, B1, W2, B2), GRADIENTS, 8.0), rtol=1e-14, atol=1e-15)
    assert capsys.readouterr().out == "iteration 1: accuracy 0.5000\n"  # of A2: classes 0, 0 for labels 1, 0


def test_gradients_are_those_of_the_mean_cross_entropy():
    generator = np.random.default_rng(1)
    x, y = generator.random((4, 6)), generator.integers(0, 3, 6)
    params = [each * 2 for each in reference.init_params(4, 5, 3, seed=1)]

    def loss():
        z1, _, _, a2 = reference.forward_prop(*params, x)
        assert np.abs(z1).min() > 1e-3, "a kink is too near"
        return -np.log(a2[y, np.arange(6)]).mean()

    z1, a1, _, a2 = reference.forward_prop(*params, x)
    gradients = reference.backward_prop(z1, a1, a2, params[2], x, y)
    for array, gradient in zip(params, gradients, strict=True):
        numeric = np.zeros_like(array)
        for index in np.ndindex(*array.shape):
            kept = array[index]
            array[index] = kept + 1e-5
            above = loss()
            array[index] = kept - 1e-5
            numeric[index] = (above - loss()) / 2e-5
            array[index] = kept
        size = np.linalg.norm(gradient)
        assert size > 1e-3
        assert np.linalg.norm(numeric - gradient) < 1e-7 * size


# The loop


def test_gradient_descent_draws_its_own_start_and_reports(capsys):
    generator = np.random.default_rng(0)
    x, y = generator.random((4, 30)), np.arange(30) % 3
    result = reference.gradient_descent(x, y, 0.1, 25, hidden=5, seed=2)
    assert [each.shape for each in result] == [(5, 4), (5, 1), (3, 5), (3, 1)]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["iteration 10", "iteration 20", "iteration 25"]
    start = reference.init_params(4, 5, 3, seed=2)
    all_close(reference.gradient_descent(x, y, 0.1, 25, params=start, report_every=0), result)
    assert capsys.readouterr().out == ""
    all_close(reference.gradient_descent(x, y, 0.1, 0, params=start), start)


def test_gradient_descent_learns(capsys):
    generator = np.random.default_rng(0)
    x = generator.random((4, 60))
    y = np.argmax(x[:3], axis=0)
    reference.gradient_descent(x, y, 1.0, 400, hidden=8, report_every=400)
    assert float(capsys.readouterr().out.split()[-1]) > 0.9


# The oracle


def train_both(backend, images, labels, *, hidden, classes, alpha, iterations):
    """Run the reference and the MLP from the same start; return both parameters, and the MLP's history."""
    start = reference.init_params(images.shape[1], hidden, classes, seed=4)
    expected = reference.gradient_descent(
        images.T / (255 if images.dtype == np.uint8 else 1), labels, alpha, iterations, params=start, report_every=0
    )
    net = nn.MLP([images.shape[1], hidden, classes], backend=backend, dtype="float64")
    names = [f"layers.{k}.{name}" for k, name in itertools.product((0, 1), ("weight", "bias"))]
    shapes = net.parameters()
    net.load_parameters({name: each.T.reshape(shapes[name].shape) for name, each in zip(names, start, strict=True)})
    history = nn.train(net, nn.Split(images, labels), optimizer=nn.SGD(alpha), epochs=iterations, batch_size=None)
    assert not np.array_equal(start[0], expected[0])
    got = net.parameters()
    return [got[name] for name in names], [each.T.reshape(got[n].shape) for n, each in zip(names, expected)], history  # noqa: B905


@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_the_network_agrees_with_the_reference_over_fifty_iterations(every_backend, make_problem, dtype):
    images, labels = make_problem(40, dtype=dtype)
    got, expected, history = train_both(every_backend, images, labels, hidden=5, classes=3, alpha=0.5, iterations=50)
    all_close(got, expected, rtol=0, atol=1e-10)
    assert history[-1].train_loss < history[0].train_loss


def test_the_network_agrees_with_the_reference_on_mnist(backend, mnist):
    images, labels = mnist.train.images[:2000], mnist.train.labels[:2000]
    got, expected, history = train_both(backend, images, labels, hidden=10, classes=10, alpha=0.1, iterations=50)
    all_close(got, expected, rtol=0, atol=1e-10)
    assert history[-1].train_accuracy > history[0].train_accuracy


def test_gradient_descent_runs_on_mnist_as_it_is_called_everywhere(mnist, capsys):
    X_train = mnist.train.images[:10_000].T / 255  # (784, 10000)  # noqa: N806
    Y_train = mnist.train.labels[:10_000]  # noqa: N806
    params = reference.gradient_descent(X_train, Y_train, alpha=0.1, iterations=3)
    assert [each.shape for each in params] == [(10, 784), (10, 1), (10, 10), (10, 1)]
    label, accuracy = capsys.readouterr().out.strip().split(": accuracy ")
    assert label == "iteration 3"
    assert 0.02 < float(accuracy) < 0.5
