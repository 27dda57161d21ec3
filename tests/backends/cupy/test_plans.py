"""The plans of CUDA kernels give the generic plan's numbers in each way through a step.

The kernels run on a GPU where there is one, and everywhere on the host, for which g++ builds them.
"""

import dataclasses
import shutil

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import (
    ACTIVATIONS,
    OPTIMIZERS,
    SGD,
    Adam,
    AdamW,
    ConfigError,
    GenericPlan,
    RMSprop,
    TrainingJob,
    get_backend,
    why_unavailable,
)
from xpnn.backends.cupy import backend as cupy_backend
from xpnn.backends.cupy import division, tiles
from xpnn.backends.cupy.backend import LoopPlan
from xpnn.backends.cupy.device import current_device
from xpnn.backends.cupy.full_batch_plan import FullBatchPlan
from xpnn.backends.cupy.graph_plan import GraphPlan
from xpnn.backends.cupy.source import ACTIVATION_NAMES, OPTIMIZER_NAMES
from xpnn.nn.runs import parity
from xpnn.nn.runs.recipes import RECIPES

RULES = {
    "sgd": SGD(0.1),
    "momentum": SGD(0.05, momentum=0.9),
    "nesterov": SGD(0.05, momentum=0.9, nesterov=True),
    "rmsprop": RMSprop(1e-3),
    "adam": Adam(3e-3),
    "adamw": AdamW(3e-3, weight_decay=0.1),
}
FEATURES, CLASSES = 19, 3
TOLERANCE = {"float64": 1e-10, "float32": 1e-4}
FULL = 200  # rows that are enough for the persistent plan on the stand-in's three multiprocessors


@pytest.fixture(params=["emulated", "device"])
def backend(request, monkeypatch):
    """The CuPy backend; a test that asks for `cupy`, the stand-in, is not for a device."""
    if request.param == "device":
        if "cupy" in request.fixturenames:
            pytest.skip("what is tested is a matter of the stand-in")
        if reason := why_unavailable("cupy"):
            pytest.skip(reason)
        monkeypatch.setattr("xpnn.backends.cupy.full_batch_plan.LEAST_TILES", 0)  # it has more multiprocessors
    else:
        if shutil.which("g++") is None:
            pytest.skip("g++ is not installed")
        request.getfixturevalue("cupy")
    return get_backend("cupy")


@pytest.fixture
def make_pair(backend, generic, make_layers):
    """`make_pair(...)`: the backend's plan, and the generic plan of the same job in float64."""

    def make(optimizer=RULES["momentum"], *, hidden=(37,), classes=CLASSES, features=FEATURES, count=23, batch_size=5,
             activation="relu", images="uint8", dtype="float64", **job):  # fmt: skip
        generator = np.random.default_rng(1)
        numbers = generator.integers(0, 256, (count, features))
        if np.dtype(images).kind == "f":
            numbers = numbers / 255 - 0.1
        elif np.dtype(images).kind == "i":
            numbers = numbers - 100
        numbers, labels = numbers.astype(images), generator.integers(0, classes, count)
        sizes, jobs = (features, *hidden, classes), []
        for each in (backend, generic):
            layers = make_layers(each, sizes, activation=activation, dtype=dtype)
            for layer in layers:  # as large as they are in use, whatever the width
                shape = layer.weight.shape
                layer.weight = each.put(each.to_numpy(layer.weight) * np.float32(2 / shape[0] ** 0.5))
                if each is generic:
                    layer.weight, layer.bias = layer.weight.astype("float64"), layer.bias.astype("float64")
            rows = each.place(numbers, labels, 1 / 255)
            jobs.append(
                TrainingJob(
                    layers, optimizer, rows, batch_size, **(job if each is backend else {**job, "precision": "full"})
                )
            )
        return backend.compile(jobs[0]), GenericPlan(generic, jobs[1])

    return make


def assert_same_training(plan, reference, *, steps=100, tolerance=None):
    """Train both for so many steps, with orders of their own making, and compare all that they keep."""
    dtype = str(plan.job.layers[0].weight.dtype)
    tolerance = tolerance or TOLERANCE[dtype]
    generator, count = np.random.default_rng(3), len(plan.job.rows.images)
    while plan.step < steps:
        order = generator.permutation(count)
        ours, theirs = plan.run(order), reference.run(order)
        assert ours.loss == pytest.approx(theirs.loss, rel=tolerance, abs=tolerance)
        assert ours.rows == theirs.rows
        assert abs(ours.correct - theirs.correct) <= (dtype == "float32")  # of two equal logits rounding chooses
    assert plan.step == reference.step >= steps
    to_numpy = plan._cupy.asnumpy
    pairs = [
        (to_numpy(getattr(ours, name)), getattr(theirs, name))
        for ours, theirs in zip(plan.job.layers, reference.job.layers, strict=True)
        for name in ("weight", "bias")
    ]
    ours, theirs = plan.state(), reference.state()
    assert ours.keys() == theirs.keys()
    for one, other in [*pairs, *((ours[name], theirs[name]) for name in ours)]:
        assert one.dtype == np.dtype(dtype)
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def test_every_optimizer_and_activation_with_a_kernel_is_tested_here():
    assert {type(rule) for rule in RULES.values()} == set(OPTIMIZER_NAMES) <= set(OPTIMIZERS.values())
    assert {row.forward for row in ACTIVATIONS.values()} >= set(ACTIVATION_NAMES)


# The graph plan


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("rule", list(RULES))
def test_optimizers(make_pair, rule, dtype):
    plan, reference = make_pair(RULES[rule], activation="tanh", l2=0.01, dtype=dtype)
    assert type(plan) is GraphPlan
    assert plan.network.parts == (3 if dtype == "float32" else 0)
    assert_same_training(plan, reference)


@pytest.mark.parametrize("activation", [name for name, row in ACTIVATIONS.items() if row.forward in ACTIVATION_NAMES])
def test_activations(make_pair, activation):
    assert_same_training(*make_pair(RULES["adam"], activation=activation))


@pytest.mark.parametrize("images", ["uint8", "int8", "uint16", "int32", "int64", "float32", "float64"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_images_of_every_type(make_pair, images, dtype):
    plan, reference = make_pair(images=images, dtype=dtype)
    assert (plan.network.parts > 0) == (images == "uint8" and dtype == "float32")
    assert_same_training(plan, reference, tolerance=1e-4 if "float32" in (images, dtype) else None)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("later_weights", [0, 60, 1 << 16])
@pytest.mark.parametrize(
    ("hidden", "classes"), [((), 3), ((), 40), ((37,), 1), ((9, 37), 3), ((37, 1, 9), 40), ((70, 33, 8, 5), 3)]
)
def test_depths(make_pair, monkeypatch, hidden, classes, later_weights, dtype):
    """No later layer, some and all of them go through one kernel with the loss."""
    monkeypatch.setattr(division, "LATER_WEIGHTS", later_weights)
    plan, reference = make_pair(hidden=hidden, classes=classes, activation="sigmoid", dtype=dtype)
    names = [node.kernel.name for node in plan._nodes]
    separate = division.first_later(plan.network, current_device(plan._cupy)) - 2
    assert names.count("hidden_layer") == names.count("hidden_backward") == separate
    assert separate == len(hidden) or later_weights
    assert_same_training(plan, reference)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("count", "batch_size"), [(23, 1), (23, 8), (23, 22), (23, 23), (1, 1), (9, 3), (150, 150), (150, 67), (40, 16)]
)
def test_batches(make_pair, count, batch_size, dtype):
    plan, reference = make_pair(RULES["adam"], count=count, batch_size=batch_size, l2=0.01, dtype=dtype)
    assert type(plan) is GraphPlan
    assert_same_training(plan, reference, steps=30)


@pytest.mark.parametrize("tile", tiles.TENSOR_TILES, ids=lambda tile: tile.macro)
@pytest.mark.parametrize("features", [16, 37, 300])
def test_tiles_of_the_tensor_cores(make_pair, monkeypatch, tile, features):
    monkeypatch.setattr(division, "TENSOR_TILES", (tile,))
    plan, reference = make_pair(count=200, batch_size=150, hidden=(70,), features=features, dtype="float32")
    assert_same_training(plan, reference, steps=8)


@pytest.mark.parametrize("tile", tiles.SCALAR_TILES, ids=lambda tile: tile.macro)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_scalar_tiles(make_pair, monkeypatch, tile, dtype):
    """Of the first layer and, since all have kernels of their own, of the others."""
    monkeypatch.setattr(division, "SCALAR_TILES", (tile,))
    monkeypatch.setattr(division, "LATER_WEIGHTS", 0)
    plan, reference = make_pair(count=200, batch_size=150, hidden=(70, 67), features=37, dtype=dtype, images="float64")
    assert_same_training(plan, reference, steps=8)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("shard_rows", "shards"), [(300, 1), (60, 4), (40, 3)])
def test_shards(make_pair, monkeypatch, shard_rows, shards, dtype):
    """Of 250 and of the last 50 rows: shards that are full, that are not, and that are empty."""
    monkeypatch.setattr(cupy_backend, "current_device", lambda cupy: current_device(cupy)._replace(multiprocessors=8))
    monkeypatch.setattr(division, "SHARD_ROWS", shard_rows)
    parameters = (FEATURES + 1) * 37 + 38 * CLASSES
    room = 1 << 28 if shards != 3 else 3 * parameters * np.dtype(dtype).itemsize
    monkeypatch.setattr(division, "SHARD_BYTES", room)
    plan, reference = make_pair(RULES["adam"], count=300, batch_size=250, l2=0.01, dtype=dtype)
    nodes = {node.kernel.name: node for node in plan._nodes}
    assert nodes["gradients"].grid[1] == shards
    assert ("update" in nodes) == (shards > 1)
    assert_same_training(plan, reference, steps=8)


@pytest.mark.usefixtures("cupy")
@pytest.mark.parametrize("rows", division.LATER_ROWS)
def test_rows_of_a_block(make_pair, monkeypatch, rows):
    monkeypatch.setattr(division, "LATER_ROWS", (rows,))
    plan, reference = make_pair(RULES["adam"], count=90, batch_size=45, hidden=(37, 9))
    later = next(node for node in plan._nodes if node.kernel.name == "later_layers")
    assert later.grid == (-(-45 // rows), 1)
    assert_same_training(plan, reference, steps=10)


def test_a_device_without_bf16_does_without(make_pair, cupy, monkeypatch):
    monkeypatch.setattr(cupy.cuda.device, "compute_capability", "75")
    plan, reference = make_pair(dtype="float32")
    assert plan.network.parts == 0
    assert "float32 arithmetic" in plan.description
    assert_same_training(plan, reference)


def test_many_classes(make_pair):
    """More outputs of a row than a block has shared memory without asking for more."""
    plan, reference = make_pair(hidden=(30,), classes=3500, features=5, count=6, batch_size=3, dtype="float64")
    later = next(node for node in plan._nodes if node.kernel.name == "later_layers")
    assert later.shared_bytes > division.SHARED_BYTES
    assert_same_training(plan, reference, steps=4)


def test_what_does_not_fit_into_a_block_is_left_to_the_loop(make_pair, cupy, monkeypatch):
    monkeypatch.setattr(cupy.cuda.device, "shared_memory", 48 << 10)
    plan, reference = make_pair(hidden=(30,), classes=3500, features=5, count=6, batch_size=3)
    assert type(plan) is LoopPlan
    assert_same_training(plan, reference, steps=4)


def test_a_batch_of_more_rows_than_there_are_is_left_to_the_loop(make_pair):
    assert type(make_pair(batch_size=24)[0]) is LoopPlan


def test_an_order_longer_than_the_data(make_pair):
    plan, reference = make_pair()
    order = np.random.default_rng(5).integers(0, 23, 60)
    ours, theirs = plan.run(order), reference.run(order)
    assert ours.rows == theirs.rows == 60
    assert plan.step == 12
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-12)


# The persistent plan


@pytest.mark.parametrize("rule", list(RULES))
@pytest.mark.parametrize("hidden", [(), (10,), (32, 32), (16, 7, 5)], ids=str)
def test_full_batches(make_pair, hidden, rule):
    plan, reference = make_pair(
        RULES[rule], hidden=hidden, count=FULL, batch_size=FULL, activation="tanh", dtype="float32", l2=0.01
    )
    assert type(plan) is FullBatchPlan
    assert_same_training(plan, reference, steps=10)


@pytest.mark.parametrize("features", [1, 3, 4, 15, 16, 31, 64, 300])
@pytest.mark.parametrize("count", [192, 193, 223])
def test_full_batches_of_every_length(make_pair, features, count):
    plan, reference = make_pair(features=features, hidden=(11,), count=count, batch_size=count, dtype="float32")
    assert type(plan) is FullBatchPlan
    assert_same_training(plan, reference, steps=5)


@pytest.mark.parametrize("activation", [name for name, row in ACTIVATIONS.items() if row.forward in ACTIVATION_NAMES])
def test_activations_of_full_batches(make_pair, activation):
    plan, reference = make_pair(
        activation=activation, hidden=(5, 4), count=FULL, batch_size=FULL, dtype="float32", classes=11
    )
    assert type(plan) is FullBatchPlan
    assert_same_training(plan, reference, steps=10)


def test_full_batches_on_fewer_rows_and_in_pieces(make_pair):
    """An order of fewer rows is one short step; of more, several steps, the last of them short."""
    plan, reference = make_pair(hidden=(10,), count=FULL, batch_size=FULL, dtype="float32")
    for rows in (50, 450, 1):
        order = np.random.default_rng(rows).integers(0, FULL, rows)
        ours, theirs = plan.run(order), reference.run(order)
        assert ours.rows == rows
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
    assert plan.step == 1 + 3 + 1


@pytest.mark.parametrize(
    "other",
    [
        {"hidden": (33,)},
        {"dtype": "float64"},
        {"images": "float32"},
        {"count": 191, "batch_size": 191},
        {"batch_size": 199},
        {"features": 2000, "hidden": (32,)},
    ],
    ids=str,
)
@pytest.mark.usefixtures("cupy")
def test_what_is_no_work_for_the_persistent_plan(make_pair, other):
    job = {"hidden": (10,), "count": FULL, "batch_size": FULL, "dtype": "float32", **other}
    assert type(make_pair(**job)[0]) is GraphPlan


@pytest.mark.parametrize("attribute", [("shared_memory", 60_000), ("cooperative", False), ("compute_capability", "75")])
def test_a_device_that_cannot_run_the_persistent_plan(make_pair, cupy, monkeypatch, attribute):
    monkeypatch.setattr(cupy.cuda.device, *attribute)
    plan, reference = make_pair(hidden=(32,), features=300, count=FULL, batch_size=FULL, dtype="float32")
    assert type(plan) is GraphPlan
    assert_same_training(plan, reference, steps=3)


# What a run costs


def test_a_graph_is_replayed_and_read_once(make_pair, cupy):
    plan, _ = make_pair(count=400, batch_size=5)  # 80 steps, of which a graph has 32
    plan.run()
    launches, replays, reads = cupy.cuda.launches, cupy.cuda.replays, cupy.reads
    assert plan.run(np.random.default_rng(0).permutation(400)).rows == 400
    assert (cupy.cuda.launches - launches, cupy.cuda.replays - replays, cupy.reads - reads) == (0, 3, 1)


@pytest.mark.parametrize("hidden", [(10,), (40,)], ids=["persistent", "graph"])
def test_full_batch_epochs_are_taken_in_one_go(make_pair, cupy, hidden):
    plan, _ = make_pair(hidden=hidden, count=FULL, batch_size=FULL, dtype="float32")
    other, _ = make_pair(hidden=hidden, count=FULL, batch_size=FULL, dtype="float32")
    plan.run()
    launches, replays, reads = cupy.cuda.launches, cupy.cuda.replays, cupy.reads
    epochs = plan.run_epochs(7)
    expected = (1, 0, 1) if type(plan) is FullBatchPlan else (0, 7, 1)
    assert (cupy.cuda.launches - launches, cupy.cuda.replays - replays, cupy.reads - reads) == expected
    assert [other.run() for _ in range(8)][1:] == epochs
    assert plan.step == other.step == 8
    assert len({totals.loss_sum for totals in epochs}) == 7
    for one, two in zip(plan.job.layers, other.job.layers, strict=True):
        np.testing.assert_array_equal(cupy.asnumpy(one.weight), cupy.asnumpy(two.weight))


def test_more_epochs_than_there_is_room_for(make_pair, monkeypatch):
    monkeypatch.setattr("xpnn.backends.cupy.plan.LEAST_STEPS", 3)
    plan, reference = make_pair(hidden=(10,), count=FULL, batch_size=FULL, dtype="float32")
    ours = plan.run_epochs(8)
    theirs = reference.run_epochs(8)
    assert [totals.loss for totals in ours] == pytest.approx([totals.loss for totals in theirs], rel=1e-5)


def test_epochs_of_smaller_batches(make_pair):
    plan, reference = make_pair()
    ours, theirs = plan.run_epochs(3), reference.run_epochs(3)
    assert [totals.loss for totals in ours] == pytest.approx([totals.loss for totals in theirs], rel=1e-12)
    assert plan.step == reference.step == 15


def test_an_order_does_not_stay_for_the_next_run(make_pair):
    """A run without an order takes the rows as they stand, also after one with an order of fewer rows."""
    plan, reference = make_pair()
    for each in (plan, reference):
        each.run(np.array([3, 3, 3]))
    assert plan.run().loss == pytest.approx(reference.run().loss, rel=1e-12)


def test_weights_that_were_given_anew_are_taken_in(make_pair, make_layers, backend):
    plan, _ = make_pair(hidden=(4,), features=6, batch_size=23)
    other = make_layers(backend, seed=9)
    plan.run()
    for layer, fresh in zip(plan.job.layers, other, strict=True):
        layer.weight, layer.bias = fresh.weight, fresh.bias
    wrong, right = plan.job.layers[1].bias, make_layers(backend, (6, 4, 5))[1].bias
    plan.job.layers[1].bias = right
    with pytest.raises(
        ConfigError, match=r"bias of layer 1 must stay float64 of shape \(3,\), got float64 of shape \(5,\)"
    ):
        plan.run()
    plan.job.layers[1].bias = wrong
    plan.run()
    assert plan.step == 2


# Numbers that are none


@pytest.mark.parametrize(
    "job",
    [
        {"dtype": "float64"},
        {"dtype": "float32"},
        {"dtype": "float32", "precision": "bfloat16"},
        {"dtype": "float32", "hidden": (10,), "count": FULL, "batch_size": FULL},
    ],
    ids=["scalar", "tensor", "bfloat16", "persistent"],
)
@pytest.mark.parametrize("where", ["weight", "bias"])
def test_a_nan_is_not_lost(make_pair, backend, job, where):
    """The NaN of a GPU has all bits but the sign set: rounding must not carry it over into a number."""
    plan, _ = make_pair(**job)
    array = backend.to_numpy(getattr(plan.job.layers[0], where))
    bits = np.int64(2**63 - 1) if array.dtype == np.float64 else np.int32(2**31 - 1)
    array.reshape(-1)[0] = np.array(bits).view(array.dtype)
    setattr(plan.job.layers[0], where, backend.put(array))
    assert np.isnan(plan.run().loss)


# Precision


def test_bfloat16_products_are_taken_only_where_they_are_asked_for(make_pair):
    """Rounded to eight bits, a weight is off by 2^-9 at most: so are the results, and more than rounding of float32."""
    losses = {}
    for precision in ("full", "bfloat16"):
        plan, reference = make_pair(count=60, batch_size=30, dtype="float32", precision=precision)
        losses[precision] = plan.run().loss / reference.run().loss - 1
    assert plan.network.parts == 1
    assert "bfloat16" in plan.description
    assert abs(losses["full"]) < 1e-6 < 3e-6 < abs(losses["bfloat16"]) < 4e-3


@pytest.mark.parametrize("job", [{"images": "float32"}, {"dtype": "float64"}], ids=str)
def test_bfloat16_is_refused_where_it_cannot_be_had(make_pair, job):
    with pytest.raises(ConfigError, match="needs uint8 images and a float32 network that the kernels know, got"):
        make_pair(**{"dtype": "float32", **job}, precision="bfloat16")


def test_bfloat16_is_refused_on_an_old_device(make_pair, cupy, monkeypatch):
    monkeypatch.setattr(cupy.cuda.device, "compute_capability", "75")
    with pytest.raises(ConfigError, match=r"needs a GPU of compute capability 8\.0, this one has 7\.5; use full"):
        make_pair(dtype="float32", precision="bfloat16")


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_other_backends_have_full_precision_only(make_layers, small_problem, name):
    backend = get_backend(name)
    job = TrainingJob(make_layers(backend), SGD(), backend.place(*small_problem, 1 / 255), 8, precision="bfloat16")
    with pytest.raises(ConfigError, match=f"precision of the backend {name} must be full, got 'bfloat16'"):
        backend.compile(job)


# Parity, as `xpnn parity` has it


@pytest.mark.parametrize("dtype", parity.TOLERANCES)
def test_a_hundred_steps_on_the_digits(backend, dtype):
    recipe = dataclasses.replace(RECIPES["quickstart"], dtype=dtype)
    data = nn.load_dataset("digits")
    (result,) = parity.compare_steps(recipe, data, [get_backend("numpy"), backend], steps=100)
    assert result.passed, result


@pytest.mark.parametrize(("name", "plan"), [("mnist-98", GraphPlan), ("gd-10", FullBatchPlan)])
def test_a_hundred_steps_on_mnist(backend, mnist, name, plan):
    data = parity.subset(mnist, 1000)
    net, compiled = parity._prepare(RECIPES[name], data, backend, 0)
    assert type(compiled) is plan
    assert net.layers[0].weight.shape[0] == 784
    (result,) = parity.compare_steps(RECIPES[name], data, [get_backend("numpy"), backend], steps=100)
    assert result.passed, result
