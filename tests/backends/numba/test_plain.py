"""The kernels' definitions, as plain Python, train networks: what is compiled means what they say.

They run where Numba compiles nothing, `NUMBA_DISABLE_JIT=1`, which the measurement of coverage asks for; elsewhere one
test runs this file so.
"""

import os
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from numba.core import config
from xpnn.backends.communicator import ALONE
from xpnn.backends.numba.divided_plan import DividedPlan
from xpnn.backends.numba.plan import NumbaPlan

# Few units, rows and steps; those that lead to the same schedule with registers of 8 and of 16 numbers.
HIDDEN = {"units": (17, 5), "two layers": (17,), "rows": (5,), "features": (5,)}
INPUTS = {  # density, images, batch size of 7 rows
    "sparse": (0.3, "uint8", 3),
    "sparse numbers": (0.3, "float32", 3),
    "kept": (0.3, "uint8", 7),
    "dense": (1.0, "uint8", 3),
}

DROPPED_AND_CLIPPED = {"dropout": 0.3, "dropout_seed": 2**63 - 5, "clip_norm": 0.2}

if not config.DISABLE_JIT:

    def test_the_definitions_train_networks():
        options = ["-q", "--override-ini=addopts=", "--import-mode=importlib", "-pno:cacheprovider"]
        command = [sys.executable, "-m", "pytest", *options, __file__]
        environment = os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTEST_ADDOPTS": ""}
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
        assert f"{5 * len(HIDDEN) * len(INPUTS)} passed" in result.stdout

else:

    def small_job(kinds, way, inputs, loss):
        """A kind, and the rest of a small job of it."""
        density, images, batch_size = INPUTS[inputs]
        kind = kinds["features-dense"]._replace(way=way, density=density, images=images, loss=loss)
        job = {"hidden": HIDDEN[way], "count": 7, "batch_size": batch_size, "l2": 0.01, "l2_per_batch": True}
        return kind, job | {"weights": np.array([1, 0, 2, 0.5, 3, 1, 0])}

    every_way = pytest.mark.parametrize(("way", "inputs"), [*product(HIDDEN, INPUTS)])

    @every_way
    @pytest.mark.parametrize("loss", ["softmax_cross_entropy", "sigmoid_cross_entropy"])
    def test_a_plan(make_pair, assert_same_training, kinds, rules, way, inputs, loss):
        kind, job = small_job(kinds, way, inputs, loss)
        plan, reference = make_pair(kind, rules["adam"], **job)
        assert type(plan) is NumbaPlan
        assert_same_training(plan, reference, steps=4)

    @every_way
    def test_dropout_and_clipping(make_pair, assert_same_training, kinds, way, inputs):
        kind, job = small_job(kinds, way, inputs, "softmax_cross_entropy")
        plan, reference = make_pair(kind, **job, **DROPPED_AND_CLIPPED)
        assert type(plan) is NumbaPlan
        assert_same_training(plan, reference, steps=4)

    @every_way
    @pytest.mark.parametrize("extra", [{}, DROPPED_AND_CLIPPED], ids=["plain", "dropped and clipped"])
    def test_ranks_and_shards(make_plan, numbers_of, ranks, kinds, way, inputs, extra):
        kind, job = small_job(kinds, way, inputs, "squared_error")
        job |= extra

        def result(rank=ALONE, **shards):
            plan = make_plan(kind, communicator=rank, **shards, **job)
            assert type(plan) is (DividedPlan if plan.job.is_divided else NumbaPlan)
            totals = [plan.run(np.array(order)) for order in ([4, 2, 6, 0, 1, 3, 5], [0, 1, 1, 5])]
            return [total.loss_sum for total in totals], numbers_of(plan)

        alone = result()
        for other in (*ranks(2, result), result(shards=3)):
            np.testing.assert_allclose(other[0], alone[0], rtol=1e-12)
            np.testing.assert_allclose(other[1], alone[1], rtol=1e-12, atol=1e-12)
