"""Processes under MPI: one launch of this very file as a script, in which three ranks do all that needs them."""

import json
import sys
from pathlib import Path

import numpy as np
from xpnn import nn
from xpnn.backends import ConfigError
from xpnn.backends.communicator import ALONE


def trained(communicator, *hidden, **options):
    """Parameters and losses of a small training on NumPy."""
    generator = np.random.default_rng(1)
    images = generator.integers(0, 256, (163, 12), dtype=np.uint8)  # (rows, features)
    rows = nn.Split(images, np.argmax(images[:, :3], axis=1).astype(np.int64))
    net = nn.MLP([12, *hidden, 3], backend="numpy", dtype="float64", activation="tanh", seed=3)
    history = nn.train(net, rows, batch_size=40, communicator=communicator, seed=5, **options)
    numbers = [array.ravel()[:50].tolist() for array in net.parameters().values()]
    return [*numbers, [result.train_loss for result in history]]


TRAININGS = {
    "plain": ((16,), {"epochs": 5, "validation": 0.2}),
    "reproducible": ((16,), {"epochs": 5, "validation": 0.2, "reproducible": True}),
    "early sums": ((400, 400), {"epochs": 1}),
}


def on_each_rank():
    """What each rank does; rank 0 prints what it found, and rank 2 then fails while the others wait for it."""
    world = nn.distributed.world()
    array = np.arange(3.0) + world.rank
    world.start_sum(array)()
    columns = np.arange(6).reshape(2, 3).T + world.rank  # (3, 2), not contiguous
    found = {
        "started": [sys.argv[1:], sys.path[0]],
        "sum": array.tolist(),
        "gathered": world.gather(np.array(world.rank)).tolist(),
        "columns": world.gather(columns)[:, 0].tolist(),
        "exchanged": world.exchange({"rank": world.rank}),
    }
    for name, (hidden, options) in TRAININGS.items():
        world.overlaps = name == "early sums"  # as if each rank had two cores
        found[name] = trained(world, *hidden, **options)
    try:
        trained(world, 16, epochs=1 + world.rank)
    except ConfigError as error:
        found["refused"] = str(error)
    if world.rank == 0:
        print(json.dumps(found), flush=True)  # noqa: T201
    world.barrier()
    if world.rank == 2:
        sys.exit(3)
    world.barrier()


def test_ranks_under_mpi_train_what_one_process_trains_and_end_with_the_one_that_fails(mpiexec):
    done = mpiexec(3, "-m", "xpnn.nn.distributed", __file__, "--one", "two")
    assert done.returncode == 3, done.stderr
    assert "rank 2: exits with 3\n" in done.stderr
    found = json.loads(done.stdout)
    assert found["started"] == [["--one", "two"], str(Path(__file__).parent)]
    assert found["sum"] == [3.0, 6.0, 9.0]
    assert found["gathered"] == [0, 1, 2]
    assert found["columns"] == [[0, 3], [1, 4], [2, 5]]
    assert found["exchanged"] == [{"rank": 0}, {"rank": 1}, {"rank": 2}]
    assert found["refused"].startswith("rank 1 has epochs 2, rank 0 has 1: ")
    for name, (hidden, options) in TRAININGS.items():
        alone = trained(ALONE, *hidden, **options)
        if name == "reproducible":
            assert found[name] == alone
        for numbers, expected in zip(found[name], alone, strict=True):
            np.testing.assert_allclose(numbers, expected, rtol=1e-9, atol=1e-12)


if __name__ == "__main__":
    on_each_rank()
