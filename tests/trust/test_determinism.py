"""What a seed promises: the same bits over processes and hash seeds, the same but rounding over threads of BLAS."""

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from xpnn import nn
from xpnn.nn.inputs.generators import make_generator
from xpnn.nn.network.initializers import INITIALIZERS

TRAIN = [sys.executable, "-c", "from xpnn.nn.cli import main; main()", "train", "--epochs", "4", "--quiet"]


def train(folder, *options, **environment):
    """Train in a process of its own, and return the digest of the model and of the metrics without their seconds."""
    subprocess.run([*TRAIN, *options, "--out", folder], check=True, env=os.environ | environment, timeout=300)
    metrics = (folder / "metrics.jsonl").read_text().splitlines()
    figures = [line[: line.index(', "seconds"')] for line in metrics]
    assert len(figures) == 4
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(), figures


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_ten_processes_give_the_same_bits(tmp_path, amount, show, name):
    runs, options = amount(10, slice=2), ["--backend", name]
    with ThreadPoolExecutor(2) as pool:
        results = list(
            pool.map(lambda k: train(tmp_path / str(k), *options, PYTHONHASHSEED=str(k * 1000 + 1)), range(runs))
        )
    assert results == results[:1] * runs
    show(11, f"processes with other PYTHONHASHSEED: {name}", f"{runs} of {runs} bit-identical")


@pytest.mark.parametrize(("name", "tolerance"), [("numpy", 1e-10), ("numba", 0.0)])
def test_other_numbers_of_threads(tmp_path, amount, show, name, tolerance):
    """Numba's sums do not depend on the threads; those of NumPy's BLAS may."""
    options, parameters = ["--backend", name, "--dtype", "float64", "--batch-size", "full"], []
    for threads in ("1", "2", "3")[: amount(3, slice=2)]:
        counts = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), threads)
        train(tmp_path / threads, *options, NUMBA_NUM_THREADS=threads, **counts)
        parameters.append(nn.load(tmp_path / threads / "model.safetensors", backend="numpy").parameters())
    largest = max(
        float(np.linalg.norm(other[key] - array) / np.linalg.norm(array))
        for other in parameters[1:]
        for key, array in parameters[0].items()
    )
    assert largest <= tolerance
    show(
        11,
        f"1, 2 and 3 threads, full batches: {name}, float64",
        "bit-identical" if largest == 0 else f"differ by {largest:.1g}",
    )


def test_starting_weights_and_orders_are_those_of_every_version():
    """Drawn on the host by NumPy's PCG64, whose numbers another version of NumPy could change: then this says so."""
    weight, bias = INITIALIZERS["he"](make_generator(0), 784, 10)
    np.testing.assert_allclose(weight[:2, 0], [0.006350335138230164, -0.031480114214325894], rtol=1e-15)
    assert make_generator(0, stream=1).permutation(10).tolist() == [3, 8, 9, 4, 6, 7, 2, 0, 1, 5]
    assert not bias.any()
