"""What a seed promises: the same bits over processes and hash seeds, the same but rounding over threads of BLAS."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from xpnn import nn
from xpnn.nn.inputs.arguments import make_generator
from xpnn.nn.network.initializers import INITIALIZERS

from .thread_jobs import CASES

TRAIN = """
import json, sys
import numpy as np
from xpnn import nn

name, dtype, batch_size, folder = sys.argv[1:]
generator = np.random.default_rng(5)
data = nn.Split(generator.random((1500, 64), dtype=np.float32), generator.integers(0, 10, 1500))
net = nn.MLP([64, 32, 10], backend=name, dtype=dtype, seed=0)
history = nn.train(net, data, epochs=3, batch_size=json.loads(batch_size), optimizer=nn.Adam(1e-3), seed=0)
nn.save(net, f"{folder}/model.safetensors")
print([(epoch.train_loss, epoch.train_accuracy) for epoch in history])
"""
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def train(folder, name, dtype, batch_size, *, hash_seed=0, threads=1):
    """Train in a process of its own; return the bytes of the model and the figures of the epochs."""
    folder.mkdir()
    environment = os.environ | dict.fromkeys(THREADS, str(threads)) | {"PYTHONHASHSEED": str(hash_seed)}
    command = [sys.executable, "-c", TRAIN, name, dtype, json.dumps(batch_size), folder]
    result = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    return (folder / "model.safetensors").read_bytes(), result.stdout


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_ten_processes_give_the_same_bits(tmp_path, amount, show, name):
    runs = amount(10, slice=2)
    results = [train(tmp_path / str(k), name, "float32", 32, hash_seed=k * 1000 + 1) for k in range(runs)]
    assert results == results[:1] * runs
    show(11, f"processes with other PYTHONHASHSEED: {name}", f"{runs} of {runs} bit-identical")


@pytest.mark.thorough
def test_a_process_that_compiles_gives_the_bits_of_one_that_reads_the_cache(tmp_path):
    sparse = """
import numpy as np
from xpnn import nn

generator = np.random.default_rng(0)
images = generator.integers(1, 256, (1000, 784)) * (generator.random((1000, 784)) < 0.2)
rows = nn.Split(images.astype(np.uint8), generator.integers(0, 10, 1000))
net = nn.MLP([784, 16, 10], backend="numba")
nn.train(net, rows, epochs=1)
print([array.tobytes() for array in net.parameters().values()])
"""
    command, environment = [sys.executable, "-c", sparse], os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    compiled, cached = (subprocess.check_output(command, env=environment) for _ in range(2))
    assert compiled == cached
    assert list(tmp_path.rglob("*.kernel"))


@pytest.mark.parametrize(("name", "tolerance"), [("numpy", 1e-10), ("numba", 0.0)])
def test_other_numbers_of_threads(tmp_path, amount, show, name, tolerance):
    """Numba's sums do not depend on the threads; those of NumPy's BLAS may."""
    parameters = []
    for threads in range(1, 1 + amount(3, slice=2)):
        train(tmp_path / str(threads), name, "float64", None, threads=threads)
        parameters.append(nn.load(tmp_path / str(threads) / "model.safetensors", backend="numpy").parameters())
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


@pytest.fixture(scope="module")
def digests():
    """Digest of each training by its name, with 1, 2 and 3 threads of Numba and of BLAS."""
    found = []
    for threads in ("1", "2", "3"):
        environment = os.environ | dict.fromkeys(THREADS, threads)
        program = [sys.executable, Path(__file__).with_name("thread_jobs.py")]
        found.append(json.loads(subprocess.check_output(program, env=environment)))
    return found


@pytest.mark.thorough
@pytest.mark.parametrize("name", CASES)
def test_any_number_of_threads_gives_the_same_bits_on_numba(digests, show, name):
    assert {each[name] for each in digests} == {digests[0][name]}
    show(11, f"1, 2 and 3 threads: numba, {name}", "bit-identical")


def test_starting_weights_and_orders_are_those_of_every_version():
    """Drawn on the host by NumPy's PCG64, whose numbers another version of NumPy could change: then this says so."""
    weight, bias = INITIALIZERS["he"](make_generator(0), 784, 10)
    np.testing.assert_allclose(weight[:2, 0], [0.006350335138230164, -0.031480114214325894], rtol=1e-15)
    assert make_generator(0, stream=1).permutation(10).tolist() == [3, 8, 9, 4, 6, 7, 2, 0, 1, 5]
    assert not bias.any()
