"""NumPy's plan of small networks gives the generic plan's numbers, bit for bit."""

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import get_backend
from xpnn.backends.generic_plan import GenericPlan
from xpnn.backends.numpy.flat_plan import MOST_PARAMETERS, FlatPlan
from xpnn.backends.testing.problem import training_job

OPTIMIZERS = [nn.SGD(0.1), nn.SGD(0.1, momentum=0.9, nesterov=True), nn.RMSprop(), nn.Adam(), nn.AdamW()]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error"])
def test_the_numbers_are_those_of_the_generic_plan(loss, optimizer, dtype):
    generator, backend = np.random.default_rng(0), get_backend("numpy")
    rows = generator.normal(size=(50, 4)).astype(dtype)
    is_softmax = loss == "softmax_cross_entropy"
    labels = generator.integers(0, 2, 50) if is_softmax else generator.integers(0, 2, (50, 2)).astype(float)
    outcomes = []
    for kind in (GenericPlan, FlatPlan):
        net = nn.MLP([4, 8, 5, 2], loss=loss, backend=backend, dtype=dtype, seed=1)
        placed = backend.place(rows, labels, 1.0)
        plan = kind(
            backend,
            training_job(net.layers, placed, optimizer=optimizer, batch_size=16, loss=loss, l2=0.1, l2_per_batch=True),
        )
        totals = [plan.run(), plan.run(np.arange(50)[::-1])]
        state = plan.state()
        net.load_parameters(net.parameters())  # other arrays, which the plan has to notice
        net.layers[0].bias += 1
        plan.load_state(state, plan.step)
        outcomes.append(([*totals, plan.run()], net.parameters() | plan.state()))
    (expected_totals, expected), (totals, arrays) = outcomes
    assert totals == expected_totals
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        assert array.dtype == expected[name].dtype
        np.testing.assert_array_equal(array, expected[name])


def test_small_networks_have_it_and_large_ones_have_not():
    backend = get_backend("numpy")
    for units, kind in ((10, FlatPlan), (MOST_PARAMETERS, GenericPlan)):
        net = nn.MLP([1, units, 2], backend=backend)
        placed = backend.place(np.zeros((2, 1)), np.array([0, 1]), 1.0)
        assert type(backend.compile(training_job(net.layers, placed, optimizer=nn.SGD(0.1), batch_size=2))) is kind


def test_an_optimizer_that_looks_at_a_whole_layer_gets_one_layer_at_a_time():
    """Layer-wise rates: a step as long as the parameter, whatever the gradient's length."""

    class LayerWise(nn.SGD):
        def update(self, xp, parameter, grad, state, *, step, learning_rate):  # noqa: ARG002
            return parameter - learning_rate * grad / xp.sqrt(xp.sum(grad * grad)), state

    net = nn.MLP([6, 4, 3], backend="numpy")
    rows = net.backend.place(np.eye(6), np.array([0, 1, 2, 0, 1, 2]), 1.0)
    plan = net.backend.compile(training_job(net.layers, rows, optimizer=LayerWise(0.5), batch_size=6))
    before = net.parameters()
    plan.run()
    for name, array in net.parameters().items():
        assert np.linalg.norm(array - before[name]) == pytest.approx(0.5, rel=1e-5)
