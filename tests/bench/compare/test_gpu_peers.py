"""The peers on a GPU do the script's work: on the CPU, where all but the CUDA graph is the same, and on a device."""

from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import SGD, Adam
from xpnn.bench.compare.contestants import GPU_PEERS, contestant_names, gpu_contestant_names, title_of
from xpnn.bench.compare.measure import measure
from xpnn.bench.compare.results_file import gpus
from xpnn.bench.compare.workers import started
from xpnn.bench.compare.workloads import Workload

# activation, optimizer, batch size out of 323 rows, epochs of a turn: 40 whole steps and one of 3 rows; or full
# batches, of which 40 are two whole groups of 16 and one of 8
TASKS = {
    "sgd-relu-remainder": ("relu", SGD(0.1), 8, 2),
    "adam-tanh-remainder": ("tanh", Adam(1e-2), 8, 2),
    "sgd-tanh-full": ("tanh", SGD(0.1), None, 40),
    "adam-relu-full": ("relu", Adam(1e-2), None, 40),
}
COMPILED_TASKS = {"adam-tanh-remainder", "sgd-tanh-full"}  # a graph takes seconds to compile
DEVICES = ("cpu", "cuda")

Results = Callable[[str, str], dict[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def results(root: Path) -> Iterator[Results]:
    """`results(device, task)`: what script and GPU peers give for a task, or why one cannot be had; measured once."""
    generator = np.random.default_rng(1)
    images = generator.integers(0, 256, (400, 6), dtype=np.uint8)  # (samples, features)
    labels = np.argmax(images[:, :3], axis=1).astype(np.int64)  # (samples,)
    train, test = nn.Split(images[:323], labels[:323]), nn.Split(images[323:], labels[323:])
    data = nn.Dataset("small", train, test, nn.Pixels(class_names=("a", "b", "c")))
    with pytest.MonkeyPatch.context() as patch:

        @cache
        def missing_and_figures(device: str) -> tuple[dict[str, str], dict[str, dict[str, dict[str, Any]]]]:
            if device == "cpu":  # CuPy's place is taken by the stand-in
                patch.syspath_prepend(root / "tests" / "stand_in")
            with started(("script", *GPU_PEERS), threads=1, device=device) as (workers, missing):
                patch.undo()
                return missing, {task: figures_of(task, workers) for task in TASKS}

        def figures_of(task: str, workers: list[Any]) -> dict[str, dict[str, Any]]:
            activation, optimizer, batch_size, epochs = TASKS[task]
            workload = Workload(task, (6, 5, 4, 3), batch_size, optimizer, activation=activation, epochs=epochs)
            present = [each for each in workers if each.name != "torch-max-autotune" or task in COMPILED_TASKS]
            return measure(workload, data, present, turns=2)

        def results_of(device: str, task: str) -> dict[str, dict[str, Any]]:
            missing, figures = missing_and_figures(device)
            return {**{name: {"missing": reason} for name, reason in missing.items()}, **figures[task]}

        yield results_of


@pytest.mark.parametrize("device", DEVICES)
def test_every_peer_has_the_losses_of_the_script(results: Results, device: str) -> None:
    if device == "cuda" and not gpus():
        pytest.skip("there is no NVIDIA GPU")
    compared = set()
    for name, task in product(GPU_PEERS, TASKS):
        if name == "torch-max-autotune" and task not in COMPILED_TASKS:
            continue
        figures, expected = results(device, task)[name], results(device, task)["script"]
        if "missing" in figures:
            continue
        assert figures.get("failed") is None, name
        rounds = device == "cuda" and GPU_PEERS[name].rounds
        # One turn warms up; each turn's first epoch follows from all epochs before it.
        assert len(figures["losses"]) == 3, name
        assert figures["losses"] == pytest.approx(expected["losses"], rel=2e-2 if rounds else 1e-4), name
        if not rounds:
            assert figures["test_accuracy"] == expected["test_accuracy"], name
            assert figures["turn_accuracy"] == expected["turn_accuracy"], name
        compared.add(name)
    if not compared:
        reasons = {each.get("missing", "") for each in results(device, "sgd-tanh-full").values()}
        pytest.skip("; ".join(sorted(filter(None, reasons))))


def test_a_peer_without_its_device_says_so(results: Results) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    missing = {name: each["missing"] for name, each in results("cuda", "sgd-tanh-full").items() if "missing" in each}
    if not missing:
        pytest.skip("all have their device here")
    if "torch-graph-1" in missing:
        assert missing["torch-graph-1"].startswith("it needs a CUDA device, and PyTorch ")
    if "jax-gpu" in missing:
        assert missing["jax-gpu"].startswith("it needs a CUDA device, and JAX ")


def test_the_peers_on_a_gpu_take_part_only_there() -> None:
    assert not set(GPU_PEERS) & set(contestant_names())
    assert gpu_contestant_names() == (*GPU_PEERS, "cupy")
    assert [title_of("jax-gpu"), title_of("cupy-script")] == ["JAX on the GPU", "CuPy script"]
    assert {name for name, peer in GPU_PEERS.items() if peer.rounds} == {"torch-graph-epoch-tf32", "jax-gpu-tf32"}
