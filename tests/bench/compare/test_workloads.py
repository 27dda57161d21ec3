"""The data that workloads train on, and the workloads that are drawn."""

from dataclasses import replace

import numpy as np
import pytest
from xpnn.backends import SGD, ConfigError
from xpnn.bench.compare.data import draw_normal, draw_pixels, load_data
from xpnn.bench.compare.workloads import (
    GPU_EPOCHS,
    WORKLOADS,
    Workload,
    cut_short,
    random_workloads,
    sweep_workloads,
)


@pytest.mark.parametrize("density", [0.05, 0.4, 1.0])
def test_pixels_have_the_density_that_was_asked_for(density: float) -> None:
    data = draw_pixels(density, rows=400, test_rows=100)
    assert data.train.images.dtype == np.uint8
    assert data.train.images.shape == (400, 784)
    assert data.test.images.shape == (100, 784)
    assert np.mean(data.train.images > 0) == pytest.approx(density, abs=5e-3)
    assert data.train.images.max() == 255


def test_normal_rows_are_standard_normal_and_the_same_each_time() -> None:
    data = draw_normal(rows=500, test_rows=50)
    assert data.train.images.dtype == np.float32
    assert [data.train.images.mean(), data.train.images.std()] == pytest.approx([0, 1], abs=0.01)
    np.testing.assert_array_equal(draw_normal(rows=500, test_rows=50).test.images, data.test.images)
    table = load_data(Workload("t", (7, 5, 3), 16, SGD(0.1), data="normal", rows=100))
    assert (len(table.train), table.features, table.num_classes) == (100, 7, 3)


@pytest.mark.parametrize("data", [draw_normal(rows=3000, test_rows=10), draw_pixels(0.2, rows=3000, test_rows=10)])
def test_the_labels_follow_linearly_from_the_rows(data) -> None:
    assert np.bincount(data.train.labels, minlength=10).min() > 100  # every class is there
    x = data.train.images - data.train.images.mean(axis=0, dtype=np.float32)
    weight = np.linalg.lstsq(x, np.eye(10)[data.train.labels], rcond=None)[0]  # (features, classes)
    assert np.mean(np.argmax(x @ weight, axis=1) == data.train.labels) > 0.8  # by chance it would be 0.1


def test_equal_data_are_the_same_object_and_rows_are_cut() -> None:
    first = load_data(Workload("a", (784, 5, 10), 16, SGD(0.1), data="pixels", density=0.1, rows=100))
    assert len(first.train) == 100
    again = load_data(Workload("b", (784, 9, 10), None, SGD(0.1), data="pixels", density=0.1, rows=100))
    assert again is first


def test_data_that_do_not_fit_the_network_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"W1 is for 784 features and 10 classes, but digits.* has 64 and 10"):
        load_data(WORKLOADS["W1"], "digits")


def test_the_fixed_workloads_are_described() -> None:
    assert list(WORKLOADS) == ["W1", "W2", "W3", "W3a", "W4", "W5", "W6", "D1", "D2", "D3", "D4", "predict"]
    assert WORKLOADS["W3a"].summary == "784-256-10, batch 128, Adam 0.001, mnist"
    assert WORKLOADS["D1"].summary == "28-256-256-2, batch 256, Adam 0.001, normal"
    assert WORKLOADS["D3"].summary == "784-256-10, batch 128, SGD 0.1, normal"
    assert WORKLOADS["predict"].summary == "784-256-10, predictions of the test rows, mnist"
    assert WORKLOADS["W1"].to_json()["optimizer"] == {
        "name": "sgd", "learning_rate": 0.1, "momentum": 0.0, "nesterov": False,
    }  # fmt: skip


def test_operations_are_those_of_the_products_that_are_needed() -> None:
    assert WORKLOADS["D4"].operations == 4 * 50 * 64 + 6 * 64 * 2  # no gradient of the columns
    assert WORKLOADS["predict"].operations == 2 * (784 * 256 + 256 * 10)
    assert replace(WORKLOADS["D4"], epochs=3).operations == 3 * WORKLOADS["D4"].operations


def test_a_workload_on_a_gpu_says_how_many_epochs_make_a_turn() -> None:
    assert GPU_EPOCHS == {"W1": 2500, "W2": 3500, "W3": 10, "W3a": 10, "W4": 10}
    workload = replace(WORKLOADS["W1"], epochs=GPU_EPOCHS["W1"])
    assert workload.summary == "784-10-10, full batch, SGD 0.1, mnist, 2500 epochs"
    assert workload.to_json()["epochs"] == 2500


def test_random_workloads_are_within_their_bounds_and_the_same_each_time() -> None:
    workloads = random_workloads(200, seed=4)
    assert random_workloads(3, seed=4) == workloads[:3]
    assert random_workloads(3, seed=5) != workloads[:3]
    hidden = [units for workload in workloads for units in workload.sizes[1:-1]]
    assert [min(hidden), max(hidden)] == pytest.approx([10, 1024], rel=0.1)
    assert np.median(hidden) == pytest.approx(101, rel=0.3)  # the geometric mean of both
    assert {len(workload.sizes) - 2 for workload in workloads} == {1, 2, 3, 4}
    batches = [workload.batch_size for workload in workloads if workload.batch_size is not None]
    assert 16 <= min(batches) < 30
    assert 40_000 < max(batches) <= 60_000
    assert 200 - len(batches) == pytest.approx(200 / 6, abs=12)  # full batches
    assert {workload.activation for workload in workloads} == {"relu", "tanh"}
    assert {workload.optimizer.name for workload in workloads} == {"sgd", "adam"}
    assert all(0.05 <= workload.density <= 1 for workload in workloads)
    assert all(workload.density == 1 for workload in workloads if workload.data == "normal")
    assert len({workload.name for workload in workloads}) == 200
    tables = [workload for workload in workloads if workload.data == "normal"]
    assert len(tables) == pytest.approx(100, abs=20)
    pictures = [workload for workload in workloads if workload not in tables]
    assert {(workload.sizes[0], workload.sizes[-1]) for workload in pictures} == {(784, 10)}
    columns, classes = zip(*((workload.sizes[0], workload.sizes[-1]) for workload in tables), strict=True)
    assert 4 <= min(columns) < 8
    assert 600 < max(columns) <= 1024
    assert {2, 3, 30} <= set(classes) <= set(range(2, 33))


def test_the_sweep_reaches_its_corners() -> None:
    points = {(workload.sizes[1], workload.batch_size) for workload in sweep_workloads()}
    assert {(10, 16), (10, 60_000), (2048, 16), (2048, 60_000), (32, 256), (128, 1024)} <= points


def test_only_what_would_take_long_is_cut_short() -> None:
    assert cut_short(WORKLOADS["W5"]) == WORKLOADS["W5"]
    assert cut_short(WORKLOADS["W6"]).rows is None  # a full batch is all rows
    wide = cut_short(Workload("wide", (784, 2048, 10), 16, SGD(0.1)))
    assert wide.rows is not None
    assert 500 < wide.rows < 5000
