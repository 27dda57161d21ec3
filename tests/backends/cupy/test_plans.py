"""The plans of CUDA kernels give the generic plan's numbers in each way through a step.

The kernels run on a GPU where there is one, and everywhere on the host, for which g++ builds them: a second or two for
each job. The jobs below have each value of what a kernel is compiled for; `nox -s thorough` has the products.
"""

import dataclasses

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import ACTIVATIONS, LOSSES, OPTIMIZERS, SGD, ConfigError, get_backend
from xpnn.backends.cupy import backend as cupy_backend
from xpnn.backends.cupy import division, tiles
from xpnn.backends.cupy.backend import LoopPlan
from xpnn.backends.cupy.device import current_device
from xpnn.backends.cupy.full_batch_plan import FullBatchPlan
from xpnn.backends.cupy.graph_plan import GraphPlan
from xpnn.backends.cupy.source import ACTIVATION_NAMES, LOSS_NAMES, OPTIMIZER_NAMES, PIXELS
from xpnn.backends.testing.problem import training_job
from xpnn.nn.runs import parity
from xpnn.nn.runs.recipes import RECIPES

FULL = 200  # rows that are enough for the persistent plan on the stand-in's three multiprocessors
PERSISTENT = {"hidden": (10,), "count": FULL, "batch_size": FULL, "dtype": "float32"}
WEIGHTED = {"weights": "some", "l2": 0.3, "l2_per_batch": True}
LARGE, MEDIUM, SMALL = tiles.TENSOR_TILES
WIDE, NARROW = tiles.SCALAR_TILES
thorough = pytest.mark.thorough
ACTIVE = [name for name, row in ACTIVATIONS.items() if row.forward in ACTIVATION_NAMES]

# Beside a job: the tiles that it is divided into, the weights of all layers that go through one kernel with the loss,
# and how many steps are taken.
GRAPH = {
    "tensor": {"optimizer": "momentum", "dtype": "float32"},
    "large tensor tile": {
        "optimizer": "sgd", "activation": "tanh", "dtype": "float32", "features": 37, "hidden": (70,), "count": 200,
        "batch_size": 150, "loss": "sigmoid_cross_entropy", "tile": LARGE, **WEIGHTED, "steps": 8,
    },
    "medium tensor tile": {
        "optimizer": "nesterov", "activation": "sigmoid", "dtype": "float32", "features": 300, "hidden": (9, 37),
        "outputs": 33, "count": 150, "batch_size": 67, "loss": "squared_error", "tile": MEDIUM, "later": 0, "l2": 0.01,
        "steps": 9,
    },
    "small tensor tile": {
        "optimizer": "adam", "activation": "tanh", "dtype": "float32", "features": 16, "count": 1, "batch_size": 1,
        "outputs": 1, "loss": "sigmoid_cross_entropy", "tile": SMALL,
    },
    "signed bytes": {
        "optimizer": "rmsprop", "activation": "leaky_relu", "images": "int8", "hidden": (37, 1, 9), "outputs": 40,
        "batch_size": 1, "later": 60, "loss": "absolute_error", **WEIGHTED,
    },
    "wide scalar tile": {
        "optimizer": "adam, epsilon hat", "activation": "identity", "images": "int64", "hidden": (70, 33, 8, 5),
        "count": 150, "batch_size": 150, "loss": "huber:0.7", "tile": WIDE, "later": 0, "steps": 8,
    },
    "narrow scalar tile": {
        "optimizer": "adamw", "images": "uint16", "dtype": "float32", "hidden": (70, 67), "features": 37, "count": 40,
        "batch_size": 16, "tile": NARROW, "later": 0, "l2": 0.01,
    },
    "no hidden layer": {
        "optimizer": "adam", "images": "float32", "hidden": (), "outputs": 70, "batch_size": 23, "weights": "some",
        "loss": "sigmoid_cross_entropy", "tolerance": 1e-4,
    },
    "one output": {
        "optimizer": "sgd", "activation": "sigmoid", "images": "float64", "dtype": "float32", "hidden": (),
        "outputs": 1, "count": 9, "batch_size": 3, "loss": "quantile:0.9",
    },
    "all rows but one": {"optimizer": "rmsprop", "images": "int32", "hidden": (9,), "outputs": 2, "batch_size": 22},
}  # fmt: skip
FULL_BATCH = {
    "relu": {"optimizer": "momentum"},
    "no hidden layer": {
        "optimizer": "sgd", "activation": "tanh", "hidden": (), "outputs": 32, "features": 1, "count": 193,
        "loss": "sigmoid_cross_entropy", **WEIGHTED,
    },
    "widest": {
        "optimizer": "nesterov", "activation": "leaky_relu", "hidden": (32, 32), "features": 64,
        "loss": "poisson", **WEIGHTED,
    },
    "deepest": {
        "optimizer": "rmsprop", "activation": "sigmoid", "hidden": (16, 7, 5), "outputs": 11, "features": 300,
        "count": 223, "l2": 0.01,
    },
    "identity": {
        "optimizer": "adam, epsilon hat", "activation": "identity", "hidden": (11,), "features": 15, "count": 192,
        **WEIGHTED,
    },
    "adamw": {
        "optimizer": "adamw", "activation": "tanh", "hidden": (5, 4), "features": 31, "loss": "sigmoid_cross_entropy",
    },
}  # fmt: skip


def test_each_value_of_what_has_a_kernel_is_in_a_job(rules):
    jobs = [*GRAPH.values(), *FULL_BATCH.values()]
    assert {type(rule) for rule in rules.values()} == set(OPTIMIZER_NAMES) <= set(OPTIMIZERS.values())
    assert {job["optimizer"] for job in jobs} == set(rules)
    assert {job.get("activation", "relu") for job in jobs} == set(ACTIVE)
    assert len(ACTIVE) == len(ACTIVATION_NAMES)
    losses = {job.get("loss", "softmax_cross_entropy").partition(":")[0] for job in jobs}
    assert losses == {name for name, loss in LOSSES.items() if loss in LOSS_NAMES}
    assert len(LOSS_NAMES) == len(LOSSES)
    assert {job.get("images", "uint8") for job in GRAPH.values()} >= {"uint8", "int64", "float32", "float64"}
    assert {job.get("images", "uint8") for job in GRAPH.values()} <= {kind.name for kind in PIXELS} | {
        "float32",
        "float64",
    }


# The graph plan


@pytest.mark.parametrize("name", GRAPH)
def test_graphs(make_pair, assert_same_training, monkeypatch, name):
    """No later layer, some and all of them go through one kernel with the loss."""
    job = dict(GRAPH[name])
    tile, later = job.pop("tile", None), job.pop("later", division.LATER_WEIGHTS)
    how = {key: job.pop(key) for key in ("steps", "tolerance") if key in job}
    monkeypatch.setattr(division, "LATER_WEIGHTS", later)
    if tile is not None:
        monkeypatch.setattr(division, "TENSOR_TILES" if tile in tiles.TENSOR_TILES else "SCALAR_TILES", (tile,))
    plan, reference = make_pair(**job)
    assert type(plan) is GraphPlan
    is_exact = job.get("images", "uint8") == "uint8" and job.get("dtype") == "float32"
    assert plan.network.parts == (3 if is_exact else 0)
    names = [node.kernel.name for node in plan._nodes]
    separate = division.first_later(plan.network, current_device(plan._cupy)) - 2
    assert names.count("hidden_layer") == names.count("hidden_backward") == separate
    assert separate == len(job.get("hidden", (37,))) or later
    assert_same_training(plan, reference, **how)


@thorough
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("rule", ["sgd", "momentum", "nesterov", "rmsprop", "adam", "adam, epsilon hat", "adamw"])
def test_optimizers(make_pair, assert_same_training, rule, dtype):
    assert_same_training(*make_pair(rule, activation="tanh", l2=0.01, dtype=dtype), steps=100)


@thorough
@pytest.mark.parametrize("activation", ACTIVE)
def test_activations(make_pair, assert_same_training, activation):
    assert_same_training(*make_pair("adam", activation=activation), steps=100)


@thorough
@pytest.mark.parametrize("images", ["uint8", "int8", "uint16", "int32", "int64", "float32", "float64"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_images_of_every_type(make_pair, assert_same_training, images, dtype):
    pair = make_pair(images=images, dtype=dtype)
    assert_same_training(*pair, steps=100, tolerance=1e-4 if "float32" in (images, dtype) else None)


@thorough
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("later_weights", [0, 60, 1 << 16])
@pytest.mark.parametrize(
    ("hidden", "outputs"), [((), 3), ((), 40), ((37,), 1), ((9, 37), 3), ((37, 1, 9), 40), ((70, 33, 8, 5), 3)]
)
def test_depths(make_pair, assert_same_training, monkeypatch, hidden, outputs, later_weights, dtype):
    monkeypatch.setattr(division, "LATER_WEIGHTS", later_weights)
    assert_same_training(*make_pair(hidden=hidden, outputs=outputs, activation="sigmoid", dtype=dtype), steps=100)


@thorough
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("count", "batch_size"), [(23, 1), (23, 8), (23, 22), (23, 23), (1, 1), (9, 3), (150, 150), (150, 67), (40, 16)]
)
def test_batches(make_pair, assert_same_training, count, batch_size, dtype):
    plan, reference = make_pair("adam", count=count, batch_size=batch_size, l2=0.01, dtype=dtype)
    assert type(plan) is GraphPlan
    assert_same_training(plan, reference)


@thorough
@pytest.mark.parametrize("tile", tiles.TENSOR_TILES, ids=lambda tile: tile.macro)
@pytest.mark.parametrize("features", [16, 37, 300])
def test_tiles_of_the_tensor_cores(make_pair, assert_same_training, monkeypatch, tile, features):
    monkeypatch.setattr(division, "TENSOR_TILES", (tile,))
    pair = make_pair(count=200, batch_size=150, hidden=(70,), features=features, dtype="float32")
    assert_same_training(*pair, steps=8)


@thorough
@pytest.mark.parametrize("tile", tiles.SCALAR_TILES, ids=lambda tile: tile.macro)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_scalar_tiles(make_pair, assert_same_training, monkeypatch, tile, dtype):
    """Of the first layer and, since all have kernels of their own, of the others."""
    monkeypatch.setattr(division, "SCALAR_TILES", (tile,))
    monkeypatch.setattr(division, "LATER_WEIGHTS", 0)
    pair = make_pair(count=200, batch_size=150, hidden=(70, 67), features=37, dtype=dtype, images="float64")
    assert_same_training(*pair, steps=8)


@pytest.mark.parametrize(
    ("shard_rows", "shards", "dtype"),
    [
        (60, 4, "float32"),
        (40, 3, "float64"),
        *(
            pytest.param(*case, marks=thorough)
            for case in [(300, 1, "float32"), (60, 4, "float64"), (40, 3, "float32")]
        ),
    ],
)
def test_shards(make_pair, assert_same_training, monkeypatch, shard_rows, shards, dtype):
    """Of 250 and of the last 50 rows: shards that are full, that are not, and that are empty."""
    monkeypatch.setattr(cupy_backend, "current_device", lambda cupy: current_device(cupy)._replace(multiprocessors=8))
    monkeypatch.setattr(division, "SHARD_ROWS", shard_rows)
    parameters = (19 + 1) * 37 + 38 * 3
    room = 1 << 28 if shards != 3 else 3 * parameters * np.dtype(dtype).itemsize
    monkeypatch.setattr(division, "SHARD_BYTES", room)
    plan, reference = make_pair("adam", count=300, batch_size=250, l2=0.01, dtype=dtype)
    nodes = {node.kernel.name: node for node in plan._nodes}
    assert nodes["gradients"].grid[1] == shards
    assert ("update" in nodes) == (shards > 1)
    assert_same_training(plan, reference, steps=8)


@pytest.mark.usefixtures("cupy")
@pytest.mark.parametrize(
    "rows", [pytest.param(rows, marks=[] if rows == 8 else [thorough]) for rows in division.LATER_ROWS]
)
def test_rows_of_a_block(make_pair, assert_same_training, monkeypatch, rows):
    monkeypatch.setattr(division, "LATER_ROWS", (rows,))
    plan, reference = make_pair("adam", count=90, batch_size=45, hidden=(37, 9))
    later = next(node for node in plan._nodes if node.kernel.name == "later_layers")
    assert later.grid == (-(-45 // rows), 1)
    assert_same_training(plan, reference, steps=10)


def test_a_device_without_bf16_does_without(make_pair, assert_same_training, cupy, monkeypatch):
    monkeypatch.setattr(cupy.cuda.device, "compute_capability", "75")
    plan, reference = make_pair(dtype="float32")
    assert plan.network.parts == 0
    assert "float32 arithmetic" in plan.description
    assert_same_training(plan, reference)


def test_many_classes(make_pair, assert_same_training):
    """More outputs of a row than a block has shared memory without asking for more."""
    plan, reference = make_pair(hidden=(30,), outputs=3500, features=5, count=6, batch_size=3)
    later = next(node for node in plan._nodes if node.kernel.name == "later_layers")
    assert later.shared_bytes > division.SHARED_BYTES
    assert_same_training(plan, reference, steps=4)


def test_what_does_not_fit_into_a_block_is_left_to_the_loop(make_pair, assert_same_training, cupy, monkeypatch):
    monkeypatch.setattr(cupy.cuda.device, "shared_memory", 48 << 10)
    plan, reference = make_pair(hidden=(30,), outputs=3500, features=5, count=6, batch_size=3)
    assert type(plan) is LoopPlan
    assert_same_training(plan, reference, steps=4)


def test_a_batch_of_more_rows_than_there_are_is_all_rows(make_pair, assert_same_training):
    assert_same_training(*make_pair(batch_size=24), steps=4)


def test_an_order_longer_than_the_data(make_pair):
    plan, reference = make_pair()
    order = np.random.default_rng(5).integers(0, 23, 60)
    ours, theirs = plan.run(order), reference.run(order)
    assert ours.rows == theirs.rows == 60
    assert plan.step == 12
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-12)


# The persistent plan


@pytest.mark.parametrize("name", FULL_BATCH)
def test_full_batches(make_pair, assert_same_training, name):
    job = {**PERSISTENT, **FULL_BATCH[name]}
    plan, reference = make_pair(**{**job, "batch_size": job["count"]})
    assert type(plan) is FullBatchPlan
    assert_same_training(plan, reference, steps=10)


@thorough
@pytest.mark.parametrize("rule", ["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw"])
@pytest.mark.parametrize("hidden", [(), (10,), (32, 32), (16, 7, 5)], ids=str)
def test_full_batches_of_every_depth(make_pair, assert_same_training, hidden, rule):
    job = {**PERSISTENT, "hidden": hidden}
    assert_same_training(*make_pair(rule, **job, activation="tanh", l2=0.01), steps=10)


@thorough
@pytest.mark.parametrize("features", [1, 3, 4, 15, 16, 31, 64, 300])
@pytest.mark.parametrize("count", [192, 193, 223])
def test_full_batches_of_every_length(make_pair, assert_same_training, features, count):
    plan, reference = make_pair(features=features, hidden=(11,), count=count, batch_size=count, dtype="float32")
    assert type(plan) is FullBatchPlan
    assert_same_training(plan, reference, steps=5)


@thorough
@pytest.mark.parametrize("activation", ACTIVE)
def test_activations_of_full_batches(make_pair, assert_same_training, activation):
    job = {**PERSISTENT, "hidden": (5, 4), "outputs": 11}
    assert_same_training(*make_pair(activation=activation, **job), steps=10)


def test_full_batches_on_fewer_rows_and_in_pieces(make_pair):
    """An order of fewer rows is one short step; of more, several steps, the last of them short."""
    plan, reference = make_pair(**PERSISTENT)
    for rows in (50, 450, 1):
        order = np.random.default_rng(rows).integers(0, FULL, rows)
        ours, theirs = plan.run(order), reference.run(order)
        assert ours.rows == rows
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
    assert plan.step == 1 + 3 + 1


@pytest.fixture
def chosen(cupy, make_pair, monkeypatch):  # noqa: ARG001
    """`chosen(...)`: the name of the plan that is chosen for a job, which is not made."""
    for plan in (GraphPlan, FullBatchPlan):
        monkeypatch.setattr(cupy_backend, plan.__name__, lambda *_, name=plan.__name__: name)
    return lambda **job: make_pair(**{**PERSISTENT, **job})[0]


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
def test_what_is_no_work_for_the_persistent_plan(chosen, other):
    assert chosen() == "FullBatchPlan"
    assert chosen(**other) == "GraphPlan"


@pytest.mark.parametrize("attribute", [("shared_memory", 60_000), ("cooperative", False), ("compute_capability", "75")])
def test_a_device_that_cannot_run_the_persistent_plan(chosen, cupy, monkeypatch, attribute):
    assert chosen(hidden=(32,), features=300) == "FullBatchPlan"
    monkeypatch.setattr(cupy.cuda.device, *attribute)
    assert chosen(hidden=(32,), features=300) == "GraphPlan"


# What a run costs


def test_a_graph_is_replayed_and_read_once(make_pair, cupy):
    plan, _ = make_pair(count=400)  # 80 steps, of which a graph has 32
    plan.run()
    launches, replays, reads = cupy.cuda.launches, cupy.cuda.replays, cupy.reads
    assert plan.run(np.random.default_rng(0).permutation(400)).rows == 400
    assert (cupy.cuda.launches - launches, cupy.cuda.replays - replays, cupy.reads - reads) == (0, 3, 1)


@pytest.mark.parametrize("hidden", [(10,), (40,)], ids=["persistent", "graph"])
def test_full_batch_epochs_are_taken_in_one_launch_or_replay(make_pair, cupy, hidden):
    job = {**PERSISTENT, "hidden": hidden}
    (plan, _), (other, _) = make_pair(**job), make_pair(**job)
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
    plan, reference = make_pair(**PERSISTENT)
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


def test_weights_that_were_replaced_are_taken_in(make_pair, make_layers, backend):
    plan, _ = make_pair()
    other = make_layers(backend, (19, 37, 3), seed=9)
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
    assert plan.step == 10


# Numbers that are none


@pytest.mark.parametrize(
    "job",
    [{"dtype": "float64"}, {"dtype": "float32"}, {"dtype": "float32", "precision": "bfloat16"}, PERSISTENT],
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
        plan, reference = make_pair(dtype="float32", precision=precision)
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
    job = training_job(
        make_layers(backend),
        backend.place(*small_problem, 1 / 255),
        optimizer=SGD(),
        batch_size=8,
        precision="bfloat16",
    )
    with pytest.raises(ConfigError, match=f"precision of the backend {name} must be full, got 'bfloat16'"):
        backend.compile(job)


# Parity, as `xpnn parity` has it


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=thorough)])
def test_a_hundred_steps_on_the_digits(backend, dtype):
    recipe = dataclasses.replace(RECIPES["quickstart"], dtype=dtype)
    data = nn.load_dataset("digits")
    (result,) = parity.compare_steps(recipe, data, [get_backend("numpy"), backend], steps=100)
    assert result.passed, result


@thorough
@pytest.mark.parametrize(("name", "plan"), [("mnist-98", GraphPlan), ("gd-10", FullBatchPlan)])
def test_a_hundred_steps_on_mnist(backend, mnist, name, plan):
    data = parity.subset(mnist, 1000)
    net, compiled = parity._prepare(RECIPES[name], data, backend, 0)
    assert type(compiled) is plan
    assert net.layers[0].weight.shape[0] == 784
    (result,) = parity.compare_steps(RECIPES[name], data, [get_backend("numpy"), backend], steps=100)
    assert result.passed, result
