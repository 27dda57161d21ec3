"""Many ranks train what one process trains: each loss and option of `nn.train`, and all that can go wrong."""

import json
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import Adam, Backend, ConfigError, DivergenceError, RunError, get_backend
from xpnn.backends.communicator import Communicator
from xpnn.nn.training import agreement
from xpnn.nn.training import loop as training_loop

# Of the largest number of each parameter.
TOLERANCE = {"float64": 1e-12, "float32": 1e-4}
ROWS, FEATURES, CLASSES = 163, 12, 3
STEPS = {"batch_size": 40, "epochs": 20}  # 100 steps; the last of an epoch has 3 rows, fewer than there are ranks
FULL = {"batch_size": None, "epochs": 6}


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(1)
    images = generator.integers(0, 256, (ROWS + 37, FEATURES), dtype=np.uint8)  # (rows, features)
    labels = np.argmax(images[:, :CLASSES], axis=1).astype(np.int64)  # (rows,)
    return nn.Dataset(
        "small", nn.Split(images[:ROWS], labels[:ROWS]), nn.Split(images[ROWS:], labels[ROWS:]),
        class_names=("a", "b", "c"), image_shape=(3, 4),
    )  # fmt: skip


@pytest.fixture
def one_batch_chunks(monkeypatch):
    """Chunks of a single batch, so that a run can stop after every step."""
    monkeypatch.setattr(training_loop, "CHUNK_SECONDS", 0.0)


class Ended(nn.Callback):
    """Keeps the optimizer's state of each rank at the end."""

    every_rank = True

    def on_train_end(self, run):
        self.state = run.optimizer_state


class Result:
    """What a training gave: parameters, figures of the epochs, and the optimizer's state."""

    def __init__(self, net, history, ended):
        self.parameters, self.step, self.state = net.parameters(), ended.state.step, ended.state.arrays
        # NaN is no figure of any run that ends, and None compares as itself.
        self.figures = [
            {name: value for name, value in vars(result).items() if name != "seconds"} for result in history
        ]

    def assert_close(self, other, dtype):
        assert self.step == other.step
        for name, array in self.parameters.items():
            assert array.dtype == np.dtype(dtype)
            most = np.abs(other.parameters[name]).max()
            assert np.abs(array - other.parameters[name]).max() <= TOLERANCE[dtype] * most, name
        assert len(self.figures) == len(other.figures) > 0
        for mine, others in zip(self.figures, other.figures, strict=True):
            assert mine == {
                name: value if value is None else pytest.approx(value, rel=10 * TOLERANCE[dtype])
                for name, value in others.items()
            }

    def assert_same_bits(self, other):
        assert (self.step, self.figures) == (other.step, other.figures)
        assert self.figures
        for mine, others in ((self.parameters, other.parameters), (self.state, other.state)):
            assert mine.keys() == others.keys()
            for name, array in mine.items():
                np.testing.assert_array_equal(array, others[name], strict=True)


def fit(communicator, data, backend="numpy", *, dtype="float64", loss="softmax_cross_entropy", **options):
    """Train 12-16-3 in one of the ranks, or alone."""
    net = nn.MLP([FEATURES, 16, CLASSES], backend=backend, dtype=dtype, loss=loss, activation="tanh", seed=3)
    ended = Ended()
    options = {"optimizer": Adam(0.01), "seed": 5, "callbacks": [], **STEPS} | options
    history = nn.train(net, data, communicator=communicator, **options | {"callbacks": [*options["callbacks"], ended]})
    return Result(net, history, ended)


def compare(ranks, sizes, work, *, dtype="float64", reproducible=False):
    """Hold what `work` gives on many ranks against what it gives alone; it takes a communicator, or None."""
    alone = work(None, reproducible=reproducible)
    for size in sizes:
        results = ranks(size, partial(work, reproducible=reproducible))
        assert len(results) == size
        for result in results:
            result.assert_same_bits(results[0])  # all ranks have the same, whatever order their sum is in
        if reproducible:
            results[0].assert_same_bits(alone)
        else:
            results[0].assert_close(alone, dtype)


@pytest.mark.parametrize("reproducible", [False, True], ids=["plain", "reproducible"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_ranks_train_what_one_process_trains(ranks, every_backend, data, dtype, reproducible):
    """100 steps; with 4 ranks some have no row of an epoch's last batch."""
    # The stand-in's device is no place for two threads, and JAX compiles for each number of rows.
    sizes = {"cupy": (1,), "jax": (3,), "array-api-strict": (2, 4)}.get(every_backend.name, (1, 2, 3, 4))
    work = partial(fit, data=data, backend=every_backend, dtype=dtype)
    compare(ranks, sizes, work, dtype=dtype, reproducible=reproducible)


def weighted(split):
    return replace(split, weights=np.random.default_rng(2).uniform(0, 3, len(split)))


OPTIONS = {
    "class weights": {"class_weight": "balanced"},
    "dropout": {"dropout": 0.4},
    "clipping": {"clip_norm": 0.05},
    "l2": {"l2": 0.01},
    "l2 per batch": {"l2": 0.5, "l2_per_batch": True},
    "accumulation": {"batch_size": 20, "accumulate": 2},
    "accumulation, full batch": {"batch_size": 40, "accumulate": 4, "epochs": 6},
    "full batch": FULL,
    "full batches at once": FULL | {"evaluate_every": 4, "epochs": 7},
    "seldom evaluated": {"evaluate_every": 3},
    "schedule": {"schedule": "cosine", "warmup_steps": 7},
    "anomalies": {"detect_anomaly": True},
    "in order": {"shuffle": False},
    "sgd": {"optimizer": nn.SGD(0.05, momentum=0.9)},
    "validation share": {"validation": 0.2},
    "all": {
        "class_weight": "balanced", "dropout": 0.2, "clip_norm": 0.5, "l2": 0.1, "l2_per_batch": True,
        "accumulate": 2, "batch_size": 20, "schedule": "cosine", "validation": 0.2,
    },
}  # fmt: skip


@pytest.mark.parametrize("reproducible", [False, True], ids=["plain", "reproducible"])
@pytest.mark.parametrize("name", ["numpy", "numba"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_ranks_train_alike_with_each_option(ranks, data, name, options, reproducible):
    work = partial(fit, data=data, backend=get_backend(name), **{"epochs": 6} | options)
    compare(ranks, (2, 3), work, reproducible=reproducible)


@pytest.mark.parametrize("reproducible", [False, True], ids=["plain", "reproducible"])
@pytest.mark.parametrize("name", ["numpy", "numba"])
@pytest.mark.parametrize("has_weights", [False, True], ids=["even", "weighted"])
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error"])
def test_ranks_train_alike_with_each_loss(ranks, data, labels_for, loss, name, has_weights, reproducible):
    split = nn.Split(data.train.images, labels_for(loss, data.train.labels, CLASSES))
    split = weighted(split) if has_weights else split
    work = partial(fit, data=split, backend=get_backend(name), loss=loss, epochs=6)
    compare(ranks, (2, 3), work, reproducible=reproducible)


def test_more_ranks_than_rows_of_a_part_have_nothing_to_do(ranks, data):
    """Batches of 4 rows, and validation and test rows that are fewer than the ranks."""
    few = replace(data, test=nn.Split(data.test.images[:2], data.test.labels[:2]))
    compare(ranks, (4,), partial(fit, data=few, batch_size=4, epochs=2, validation=few.test))


@pytest.mark.parametrize("reproducible", [False, True], ids=["plain", "reproducible"])
def test_early_stopping_ends_all_ranks_after_the_same_epoch(ranks, reproducible):
    """Labels are noise: the network soon learns them by heart."""
    generator = np.random.default_rng(3)
    noise = nn.Split(generator.normal(size=(80, FEATURES)), generator.integers(0, CLASSES, 80))

    def work(communicator, *, reproducible):
        result = fit(
            communicator, noise, optimizer=Adam(0.05), batch_size=32, epochs=60, validation=0.25,
            early_stopping=nn.EarlyStopping(patience=3), reproducible=reproducible,
        )  # fmt: skip
        losses = [figures["validation_loss"] for figures in result.figures]
        assert len(losses) == int(np.argmin(losses)) + 4 < 60
        return result

    compare(ranks, (2, 3), work, reproducible=reproducible)


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_ranks_share_batches_from_outside(ranks, data, name):
    """Those have rows of any number, also fewer than there are ranks, and weights."""
    ends = np.cumsum([0, 40, 2, 50, 1, 30, 40])

    def batches(epoch):  # noqa: ARG001
        for start, stop in pairwise(ends):
            yield data.train.images[start:stop], data.train.labels[start:stop], np.linspace(1, 2, stop - start)

    def work(communicator, *, reproducible):
        assert not reproducible
        net_data = nn.Batches(batches)
        return fit(communicator, net_data, get_backend(name), batch_size=128, epochs=5, validation=data.test)

    compare(ranks, (2, 3), work)


# Rows in a file


@pytest.mark.parametrize("reproducible", [False, True], ids=["plain", "reproducible"])
@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_a_rank_reads_only_its_rows_of_a_mapped_file(ranks, data, tmp_path, monkeypatch, name, reproducible):
    """Every row of an epoch is taken by one rank, and the result is that of rows in memory."""
    pytest.importorskip(name)
    np.save(tmp_path / "images.npy", data.train.images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    backend, batch = get_backend(name), Backend.batch
    taken = {}

    def note(self, rows, index, dtype):
        if rows.images.shape[0] == ROWS:
            taken.setdefault(ranks.current(), []).append(self.to_numpy(index))
        return batch(self, rows, index, dtype)

    monkeypatch.setattr(Backend, "batch", note)
    rows = nn.Split(mapped, data.train.labels)
    results = ranks(3, partial(fit, data=rows, backend=backend, epochs=2, reproducible=reproducible))
    assert sorted(taken) == [0, 1, 2]
    of_ranks = [np.concatenate(taken[rank]) for rank in range(3)]  # two epochs' rows of each
    np.testing.assert_array_equal(np.bincount(np.concatenate(of_ranks), minlength=ROWS), np.full(ROWS, 2))
    assert max(map(len, of_ranks)) < 2 * 0.42 * ROWS  # of 5 shards, no rank has more than two
    monkeypatch.undo()
    in_memory = fit(None, data.train, backend, epochs=2, reproducible=reproducible)
    if reproducible:
        results[0].assert_same_bits(in_memory)
    else:
        results[0].assert_close(in_memory, "float64")


# Listening, stopping, going on


class Recorder(nn.Callback):
    """Notes what it is told."""

    def __init__(self):
        self.told = []

    def on_train_begin(self, run):
        self.told.append(("begin", run.epoch))

    def on_epoch_end(self, run, result):  # noqa: ARG002
        self.told.append(("epoch", result.epoch))

    def on_train_end(self, run):
        self.told.append(("end", run.epoch))


class EveryRank(Recorder):
    every_rank = True


def test_rank_0_alone_calls_callbacks_but_those_of_every_rank(ranks, data):
    def work(communicator):
        one, every = Recorder(), EveryRank()
        fit(communicator, data, epochs=2, callbacks=[one, every])
        return one.told, every.told

    all_told = [("begin", 1), ("epoch", 1), ("epoch", 2), ("end", 3)]
    assert ranks(3, work) == [(all_told, all_told), ([], all_told), ([], all_told)]


class StopAt(nn.Callback):
    """Stops on one rank after some chunks."""

    every_rank = True

    def __init__(self, communicator, rank, chunks):
        self.is_here, self.chunks = communicator is None or communicator.rank == rank, chunks

    def on_chunk_end(self, run):
        self.chunks -= 1
        if self.is_here and self.chunks == 0:
            run.stop()


@pytest.mark.usefixtures("one_batch_chunks")
@pytest.mark.parametrize("rank", [0, 2])
def test_a_stop_on_one_rank_stops_all_after_the_same_step(ranks, data, rank):
    def work(communicator, *, reproducible):
        stop = StopAt(communicator, rank, 8)
        result = fit(communicator, data, callbacks=[stop], reproducible=reproducible)
        assert result.step == 8
        return result

    compare(ranks, (3,), work, reproducible=True)


@pytest.mark.usefixtures("one_batch_chunks")
@pytest.mark.parametrize("options", [{}, {"dropout": 0.3, "validation": 0.2, "early_stopping": nn.EarlyStopping(50)}])
@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 2), (2, None), (4, 1)])
def test_a_run_goes_on_on_another_number_of_ranks(ranks, data, tmp_path, before, after, options):
    """Reproducible runs end with the same bits, wherever they were interrupted; rank 0 alone wrote the file."""
    path = tmp_path / "run.safetensors"
    options = {"epochs": 4, "reproducible": True, **options}

    def first(communicator):
        saves = []
        save = nn.SaveCheckpoints(path, every_seconds=0.0)
        save.save = lambda checkpoint: (saves.append(checkpoint.step), type(save).save(save, checkpoint))
        fit(communicator, data, callbacks=[save, StopAt(communicator, 0, 7)], **options)
        return saves

    saves = ranks(before, first)
    assert saves == [[*range(8), 7]] + [[]] * (before - 1)

    def rest(communicator):
        return fit(communicator, data, resume=path, **options)

    [result, *_] = [rest(None)] if after is None else ranks(after, rest)
    result.assert_same_bits(fit(None, data, **options))


# What is refused


def refused(ranks, size, work, kind=ConfigError):
    """Return the message of the error, which every rank must raise."""
    errors = ranks.errors(size, work)
    assert [type(error) for error in errors] == [kind] * size, errors
    assert len({str(error) for error in errors}) == 1
    return str(errors[0])


def changed(split, what):
    arrays = {"images": split.images.copy(), "labels": split.labels.copy()}
    arrays[what][5] = (arrays[what][5] + 1) % 3
    return nn.Split(**arrays)


DIFFERENCES = {
    "an image": (lambda data: {"data": replace(data, train=changed(data.train, "images"))}, "check sum of the rows"),
    "a label": (lambda data: {"data": replace(data, train=changed(data.train, "labels"))}, "check sum of the rows"),
    "fewer rows": (
        lambda data: {"data": replace(data, train=nn.Split(data.train.images[:-1], data.train.labels[:-1]))},
        "number of rows 162, rank 0 has 163",
    ),
    "weights of rows": (lambda data: {"data": replace(data, train=weighted(data.train))}, "check sum of the rows"),
    "validation rows": (lambda data: {"validation": data.test}, "check sum of the validation rows"),
    "seed": (lambda data: {"seed": 6}, "state of the generator"),  # noqa: ARG005
    "batch_size": (lambda data: {"batch_size": 41}, "batch_size 41, rank 0 has 40"),  # noqa: ARG005
    "epochs": (lambda data: {"epochs": 7}, "epochs 7, rank 0 has 20"),  # noqa: ARG005
    "evaluate_every": (lambda data: {"evaluate_every": 2}, "evaluate_every 2, rank 0 has 1"),  # noqa: ARG005
    "optimizer": (lambda data: {"optimizer": nn.SGD(0.01)}, "optimizer "),  # noqa: ARG005
    "backend": (lambda data: {"backend": "numba"}, "backend 'numba', rank 0 has 'numpy'"),  # noqa: ARG005
    "type": (lambda data: {"dtype": "float32"}, "dtype 'float32', rank 0 has 'float64'"),  # noqa: ARG005
    "dropout": (lambda data: {"dropout": 0.1}, "dropout 0.1, rank 0 has 0.0"),  # noqa: ARG005
    "reproducible": (lambda data: {"reproducible": True}, "shards 5, rank 0 has None"),  # noqa: ARG005
}


@pytest.mark.parametrize(("change", "message"), DIFFERENCES.values(), ids=DIFFERENCES)
def test_a_rank_that_differs_is_refused_on_every_rank(ranks, data, change, message):
    nets = {}

    def work(communicator):
        options = {"data": data} | (change(data) if communicator.rank == 1 else {})
        fit(communicator, callbacks=[Begun(nets)], **options)

    assert refused(ranks, 3, work).startswith(f"rank 1 has {message}")
    assert not nets


class Begun(nn.Callback):
    """Notes that a training began."""

    every_rank = True

    def __init__(self, nets):
        self.nets = nets

    def on_train_begin(self, run):
        self.nets[id(run)] = run.net


def test_a_refused_training_leaves_every_network_as_it_was(ranks, data):
    """Weights of another seed on rank 2; names and scale are not adopted either."""
    nets = [nn.MLP([FEATURES, 16, CLASSES], backend="numpy", seed=3 + (rank == 2)) for rank in range(3)]
    before = [(net.parameters(), net.class_names, net.input_scale) for net in nets]
    message = refused(ranks, 3, lambda communicator: nn.train(nets[communicator.rank], data, communicator=communicator))
    assert message.startswith("rank 2 has check sum of the weights ")
    assert message.endswith("make the network with the same seed everywhere")
    for net, (parameters, names, scale) in zip(nets, before, strict=True):
        assert (net.class_names, net.input_scale) == (names, scale)
        for name, array in net.parameters().items():
            np.testing.assert_array_equal(array, parameters[name])


def test_another_version_on_a_rank_is_refused(ranks, data, monkeypatch):
    versions = agreement.versions

    def of_rank():
        return versions() | ({"numpy": "1.0"} if ranks.current() == 1 else {})

    monkeypatch.setattr(agreement, "versions", of_rank)
    message = refused(ranks, 2, partial(fit, data=data))
    assert message.startswith("rank 1 has version of numpy '1.0', rank 0 has '")
    assert message.endswith("install the same versions everywhere")


@pytest.mark.usefixtures("one_batch_chunks")
def test_another_checkpoint_on_a_rank_is_refused(ranks, data, tmp_path):
    paths = [tmp_path / f"{steps}.safetensors" for steps in (2, 3)]
    for steps, path in zip((2, 3), paths, strict=True):
        fit(None, data, callbacks=[nn.SaveCheckpoints(path), StopAt(None, 0, steps)])

    message = refused(ranks, 2, lambda communicator: fit(communicator, data, resume=paths[communicator.rank]))
    assert message.startswith("rank 1 has checkpoint of step 3, rank 0 has 2: ")
    message = refused(
        ranks, 2, lambda communicator: fit(communicator, data, resume=None if communicator.rank else paths[0])
    )
    assert message.startswith("rank 1 has checkpoint of step None, rank 0 has 2: ")


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        (4, {"batch_size": 3}, "4 processes cannot share batches of 3 rows as there are more than 3"),
        (3, {"batch_size": 16, "reproducible": True}, "whose 2 shards are added up in a fixed order"),
    ],
)
def test_more_ranks_than_can_have_something_to_do_are_refused(ranks, data, size, options, message):
    assert message in refused(ranks, size, partial(fit, data=data, **options))


@pytest.mark.parametrize("wrong", ["mpi", 4, object()])
def test_what_is_no_communicator_is_refused(data, wrong):
    with pytest.raises(ConfigError, match=r"communicator must be nn\.distributed\.world\(\), or None, got"):
        fit(wrong, data)


@pytest.mark.parametrize("wrong", [1, None, "yes"])
def test_reproducible_is_true_or_false(data, wrong):
    with pytest.raises(ConfigError, match=r"reproducible must be True or False, got"):
        fit(None, data, reproducible=wrong)


# What goes wrong on one rank alone


@pytest.mark.parametrize("reproducible", [False, True], ids=["plain", "reproducible"])
@pytest.mark.parametrize("detect_anomaly", [False, True])
@pytest.mark.parametrize(("row", "rank"), [(3, 0), (17, 1), (39, 2)])
def test_numbers_too_large_on_one_rank_end_all_and_name_it(ranks, data, row, rank, detect_anomaly, reproducible):
    """A finite row whose products overflow, in the part of the first batch that one rank has."""
    images = data.train.images / 255
    images[row] = 1e308
    rows = nn.Split(images, data.train.labels)
    finite = []

    def work(communicator):
        net = nn.MLP([FEATURES, 16, CLASSES], backend="numpy", dtype="float64", activation="relu", seed=3)
        try:
            nn.train(
                net, rows, communicator=communicator, shuffle=False, detect_anomaly=detect_anomaly,
                reproducible=reproducible, optimizer=nn.SGD(0.1), **STEPS,
            )  # fmt: skip
        finally:
            finite.append(net.are_finite())

    message = refused(ranks, 3, work, DivergenceError)
    assert f"epoch 1, step 1 of 5: rank {rank}: " in message
    assert " in the output of layers.0 at " in message
    assert finite == [True] * 3


class Drift(nn.Callback):
    """Changes a weight of one rank by a bit."""

    every_rank = True

    def __init__(self, communicator, rank):
        self.is_here = communicator.rank == rank

    def on_chunk_end(self, run):
        if self.is_here and run.epoch == 2:
            weight = run.net.layers[0].weight
            weight[1, 2] = np.nextafter(weight[1, 2], np.inf)


@pytest.mark.parametrize("rank", [1, 2])
def test_weights_that_drift_apart_are_noticed(ranks, data, rank):
    def work(communicator):
        fit(communicator, data, callbacks=[Drift(communicator, rank)])

    message = refused(ranks, 3, work, RunError)
    assert message.startswith(f"after epoch 2 rank {rank} has other weights than rank 0: ")


def test_an_error_on_one_rank_is_not_waited_for_forever(ranks, data):
    """Of MPI's ranks, that one ends the job; threads are told by the test's communicator."""

    class Fail(nn.Callback):
        def on_chunk_end(self, run):  # noqa: ARG002
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        ranks(3, partial(fit, data=data, callbacks=[Fail()]))


# Communicators


def test_a_communicator_may_leave_sums_to_be_done_at_once(ranks):
    """`start_sum` of the base class."""

    def work(communicator):
        array = np.full(3, communicator.rank + 1.0)
        Communicator.start_sum(communicator, array)()
        return array.tolist()

    assert ranks(2, work) == [[3.0] * 3] * 2


# Under MPI


SCRIPT = """
import json, sys, zlib
import numpy as np
from xpnn import nn
from xpnn.backends import Adam

world = nn.distributed.world()
generator = np.random.default_rng(1)
images = generator.integers(0, 256, (163, 12), dtype=np.uint8)
labels = np.argmax(images[:, :3], axis=1).astype(np.int64)
found = {"size": world.size, "parameters": {}, "figures": {}}

# Of the communicator itself.
array = np.arange(3.0) + world.rank
ended = world.start_sum(array)
ended()
found["sum"] = array.tolist()
found["gathered"] = world.gather(np.full((1, 2), world.rank)).tolist()
found["told"] = world.broadcast({"rank": world.rank}, root=world.size - 1)
world.barrier()

for backend in ("numpy", "numba"):
    for dtype in ("float64", "float32"):
        for reproducible in (False, True):
            net = nn.MLP([12, 16, 3], backend=backend, dtype=dtype, activation="tanh", seed=3)
            history = nn.train(
                net, nn.Split(images, labels), optimizer=Adam(0.01), seed=5, epochs=20, batch_size=40,
                validation=0.2, communicator=world, reproducible=reproducible,
            )
            key = f"{backend} {dtype} {reproducible}"
            found["parameters"][key] = {name: array.ravel().tolist() for name, array in net.parameters().items()}
            found["figures"][key] = [[each.train_loss, each.validation_loss, each.train_accuracy] for each in history]

# A large network, whose last layers' sums begin early, as if each rank had two cores.
world.overlaps = True
net = nn.MLP([12, 400, 400, 3], backend="numpy", dtype="float64", activation="tanh", seed=3)
nn.train(net, nn.Split(images, labels), epochs=1, batch_size=40, communicator=world)
found["large"] = [array.ravel()[:50].tolist() for array in net.parameters().values()]

try:
    nn.train(net, nn.Split(images, labels), epochs=1 + world.rank, communicator=world)
    found["refused"] = None
except nn.XpnnError as error:
    found["refused"] = str(error)
if world.rank == 0:
    print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """What the script finds without `mpiexec`."""
    import subprocess
    import sys

    pytest.importorskip("mpi4py")
    path = tmp_path_factory.mktemp("single") / "script.py"
    path.write_text(SCRIPT, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", path], capture_output=True, text=True, check=True, timeout=300
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("size", [2, 4])
def test_processes_under_mpi_train_what_one_trains(mpiexec, single, size):
    done = mpiexec(size, SCRIPT)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert (found["size"], single["size"]) == (size, 1)
    assert found["sum"] == [size * k + size * (size - 1) / 2 for k in range(3)]
    assert found["gathered"] == [[[rank, rank]] for rank in range(size)]
    assert found["told"] == {"rank": size - 1}
    for key, parameters in found["parameters"].items():
        dtype, is_reproducible = key.split()[1], key.endswith("True")
        alone = single["parameters"][key]
        if is_reproducible:
            assert parameters == alone, key
            assert found["figures"][key] == single["figures"][key], key
            continue
        for name, array in parameters.items():
            most = np.abs(alone[name]).max()
            np.testing.assert_allclose(array, alone[name], rtol=0, atol=TOLERANCE[dtype] * most, err_msg=key)
        np.testing.assert_allclose(found["figures"][key], single["figures"][key], rtol=10 * TOLERANCE[dtype])
    for array, alone in zip(found["large"], single["large"], strict=True):
        np.testing.assert_allclose(array, alone, rtol=1e-9, atol=1e-12)
    assert single["refused"] is None
    assert found["refused"].startswith("rank 1 has epochs 2, rank 0 has 1: ")
