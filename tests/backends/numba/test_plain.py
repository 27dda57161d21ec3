"""With NUMBA_DISABLE_JIT=1 the compiled plan is plain Python, and trains as the generic one."""

import os
import subprocess
import sys

import pytest
from xpnn.backends import why_unavailable

if reason := why_unavailable("numba"):
    pytest.skip(reason, allow_module_level=True)

TRAIN = """
import sys
import array_api_compat.numpy as compat_numpy
import numpy as np
from xpnn.backends import Adam, ArrayAPIBackend, GenericPlan, Layer, TrainingJob, get_backend, numba_schedules
from xpnn.backends.numba.plan import NumbaPlan

way, density, loss = sys.argv[1], float(sys.argv[2]), sys.argv[3]
hidden = {"units": (9, 5), "two layers": (9,), "rows": (5,), "features": (5,)}[way]
numba_schedules.LARGE_BATCH = 1 if way == "rows" else 10**9
backend = get_backend("numba")


def job():
    generator = np.random.default_rng(1)
    images = (generator.integers(1, 256, (7, 5)) * (generator.random((7, 5)) < density)).astype(np.uint8)
    labels, weights = generator.integers(0, 3, 7), None
    if loss != "softmax_cross_entropy":
        labels, weights = generator.integers(0, 2, (7, 3)).astype(np.float64), np.array([1, 0, 2, 0.5, 3, 1, 0])
    rows = backend.place(images, labels, 1 / 255, weights)
    sizes = (5, *hidden, 3)
    layers = [
        Layer(generator.normal(size=(n, m)), generator.normal(size=m), "tanh" if k < len(hidden) else "identity")
        for k, (n, m) in enumerate(zip(sizes, sizes[1:]))
    ]
    return TrainingJob(layers, Adam(1e-2), rows, 3, loss, l2=0.01, l2_per_batch=weights is not None)


plan, reference = backend.compile(job()), GenericPlan(ArrayAPIBackend(compat_numpy), job())
assert type(plan) is NumbaPlan
for order in ([4, 2, 6, 0, 1, 3, 5], [0, 1, 1, 5]):
    ours, theirs = plan.run(np.array(order)), reference.run(np.array(order))
    assert abs(ours.loss_sum - theirs.loss_sum) < 1e-12, (ours, theirs)
    assert ours[1:] == theirs[1:]
for ours, theirs in zip(plan.job.layers, reference.job.layers):
    np.testing.assert_allclose(ours.weight, theirs.weight, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(ours.bias, theirs.bias, rtol=1e-10, atol=1e-10)
for name, array in plan.state().items():
    np.testing.assert_allclose(array, reference.state()[name], rtol=1e-10, atol=1e-10)
print(type(plan._schedule.kernel).__name__, plan._schedule.name, plan.step)
"""


@pytest.mark.parametrize("density", [0.3, 1.0], ids=["sparse", "dense"])
@pytest.mark.parametrize(
    ("way", "loss"),
    [
        ("units", "softmax_cross_entropy"),
        ("two layers", "softmax_cross_entropy"),
        ("rows", "softmax_cross_entropy"),
        ("features", "softmax_cross_entropy"),
        ("units", "squared_error"),
        ("two layers", "sigmoid_cross_entropy"),
        ("rows", "sigmoid_cross_entropy"),
        ("features", "squared_error"),
    ],
)
def test_the_definitions_train_a_network(way, loss, density):
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    arguments = [sys.executable, "-W", "error", "-c", TRAIN, way, str(density), loss]
    result = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"function {'units' if way == 'two layers' else way} 5\n"
