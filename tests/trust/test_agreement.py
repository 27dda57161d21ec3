"""Many processes against one: the parameters after the first 100 steps of a recipe.

In full under `mpiexec`, where this very file is the script that the ranks run; a slice with threads as ranks.
"""

import os
import sys
from dataclasses import replace
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
from xpnn import nn
from xpnn.backends.communicator import ALONE
from xpnn.nn.runs.data_choice import DataChoice
from xpnn.nn.runs.recipes import RECIPES
from xpnn.nn.training import loop

STEPS = 100
PROMISED = {"float64": 1e-12, "float32": 1e-4}  # the largest difference of any parameter
RANKS = (1, 2, 4)


class Case(NamedTuple):
    """A training."""

    recipe: str
    backend: str
    dtype: str
    reproducible: bool

    def __str__(self) -> str:
        return f"{self.recipe}, {self.backend}, {self.dtype}, {'a fixed' if self.reproducible else 'any'} order of sums"


class StopAtStep(nn.Callback):
    """Stops after `STEPS` steps."""

    every_rank = True

    def on_chunk_end(self, run):
        if run.plan.step == STEPS:
            run.stop()


@cache
def data_of(name):
    """The data set of a recipe; MNIST is where XPNN_DATA says."""
    recipe = RECIPES[name]
    return DataChoice(None if recipe.dataset == "digits" else os.environ["XPNN_DATA"]).load(recipe, seed=0)


def trained(case, communicator):
    """Parameters after the recipe's first steps, of which each is a chunk."""
    recipe = replace(RECIPES[case.recipe], dtype=case.dtype).with_options(reproducible=case.reproducible)
    data = data_of(case.recipe)
    net = recipe.network(data, backend=case.backend, seed=0)
    stop = StopAtStep()
    recipe.train(net, data, seed=0, callbacks=[stop], communicator=communicator)
    return net.parameters()


def cases(pytestconfig):
    """All of them with --trust, else the digits on NumPy in float64."""
    if not pytestconfig.getoption("--trust"):
        return [Case("quickstart", "numpy", "float64", reproducible) for reproducible in (False, True)]
    recipes = ["quickstart", *(["mnist-98"] if os.environ.get("XPNN_DATA") else [])]
    return [Case(*each) for each in product(recipes, ["numpy", "numba"], PROMISED, [False, True])]


def test_many_processes_agree_with_one(ranks, request, pytestconfig, tmp_path, monkeypatch, show):
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)
    which = cases(pytestconfig)
    alone = {case: trained(case, ALONE) for case in which}
    if pytestconfig.getoption("--trust"):
        mpiexec = request.getfixturevalue("mpiexec")
        found = {size: launched(mpiexec, size, which, tmp_path / f"{size}.npz") for size in RANKS}
    else:
        found = {2: {case: ranks(2, lambda each, case=case: trained(case, each))[0] for case in which}}
    for case in which:
        far = {size: distance(of_size[case], alone[case]) for size, of_size in found.items()}
        assert max(far.values()) <= (0 if case.reproducible else PROMISED[case.dtype]), (case, far)
        said = ", ".join(f"{size}: {f'{most:.1e}' if most else 'same bits'}" for size, most in far.items())
        show(14, f"parameters after {STEPS} steps: {case}", f"largest difference by ranks: {said}", section="ranks")


def launched(mpiexec, size, which, path):
    """Train all cases on so many processes, and return what rank 0 has."""
    done = mpiexec(size, __file__, path, repr([tuple(case) for case in which]))
    assert done.returncode == 0, done.stderr
    with np.load(path) as file:
        names = [name.split("/") for name in file.files]
        return {
            case: {name: file[f"{k}/{name}"] for number, name in names if number == str(k)}
            for k, case in enumerate(which)
        }


def distance(found, expected):
    """The largest difference of any parameter; 0 for the same bits."""
    assert found.keys() == expected.keys()
    return max(float(np.abs(found[name] - array).max()) for name, array in expected.items())


def on_each_rank(path, which):
    """Train all cases; rank 0 writes what came out."""
    world, found = nn.distributed.world(), {}
    loop.CHUNK_SECONDS = 0.0
    for k, case in enumerate(which):
        found |= {f"{k}/{name}": array for name, array in trained(case, world).items()}
    if world.rank == 0:
        np.savez(path, allow_pickle=False, **found)


if __name__ == "__main__":
    from ast import literal_eval

    on_each_rank(sys.argv[1], [Case(*each) for each in literal_eval(sys.argv[2])])
