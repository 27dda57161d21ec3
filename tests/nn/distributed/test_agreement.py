"""Many ranks train what one process trains: each backend, loss and option of `nn.train`, in threads of this process."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import Adam, Backend, get_backend
from xpnn.backends.communicator import Communicator

from .small_training import CLASSES, FEATURES, ROWS, StopAt, fit, weighted

FULL = {"batch_size": None}


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


@pytest.mark.parametrize(
    ("dtype", "reproducible"),
    [("float64", False), ("float32", True), ("float32", False)],
    ids=["float64-plain", "float32-reproducible", "float32-plain"],
)
def test_ranks_train_what_one_process_trains(ranks, every_backend, data, dtype, reproducible):
    """With 4 ranks some have no row of an epoch's last batch."""
    # The stand-in's device is no place for two threads, and JAX compiles for each number of rows.
    sizes = {"cupy": (1,), "jax": (3,), "array-api-strict": (4,)}.get(every_backend.name, (1, 2, 4))
    work = partial(fit, data=data, backend=every_backend, dtype=dtype)
    compare(ranks, sizes, work, dtype=dtype, reproducible=reproducible)


OPTIONS = {
    "class weights": {"class_weight": "balanced"},
    "dropout": {"dropout": 0.4},
    "clipping": {"clip_norm": 0.05},
    "l2": {"l2": 0.01},
    "l2 per batch": {"l2": 0.5, "l2_per_batch": True},
    "accumulation": {"batch_size": 20, "accumulate": 2},
    "accumulation, full batch": {"batch_size": 40, "accumulate": 4},
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


# Each option and each loss on both backends, in any order on one and in a fixed order on the other.
WAYS = [("numpy", 0, 2), ("numba", 1, 3)]


@pytest.mark.parametrize(("name", "turn", "size"), WAYS, ids=["numpy", "numba"])
@pytest.mark.parametrize("option", OPTIONS)
def test_ranks_train_alike_with_each_option(ranks, data, option, name, turn, size):
    work = partial(fit, data=data, backend=get_backend(name), **OPTIONS[option])
    compare(ranks, (size,), work, reproducible=(list(OPTIONS).index(option) + turn) % 2 == 0)


@pytest.mark.parametrize(("name", "turn", "size"), WAYS, ids=["numpy", "numba"])
@pytest.mark.parametrize("has_weights", [False, True], ids=["even", "weighted"])
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error"])
def test_ranks_train_alike_with_each_loss(ranks, data, labels_for, loss, has_weights, name, turn, size):
    split = nn.Split(data.train.images, labels_for(loss, data.train.labels, CLASSES))
    split = weighted(split) if has_weights else split
    work = partial(fit, data=split, backend=get_backend(name), loss=loss, epochs=3)
    compare(ranks, (size,), work, reproducible=has_weights == bool(turn))


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

    compare(ranks, (3,), work, reproducible=reproducible)


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
        return fit(communicator, net_data, get_backend(name), batch_size=128, epochs=3, validation=data.test)

    compare(ranks, (3,), work)


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


@pytest.mark.usefixtures("one_batch_chunks")
@pytest.mark.parametrize("rank", [0, 2])
def test_a_stop_on_one_rank_stops_all_after_the_same_step(ranks, data, rank):
    def work(communicator, *, reproducible):
        stop = StopAt(communicator, rank, 8)
        result = fit(communicator, data, callbacks=[stop], reproducible=reproducible)
        assert result.step == 8
        return result

    compare(ranks, (3,), work, reproducible=True)


ALL_STATE = {"dropout": 0.3, "validation": 0.2, "early_stopping": nn.EarlyStopping(50)}


@pytest.mark.usefixtures("one_batch_chunks")
@pytest.mark.parametrize(
    ("before", "after", "options"), [(1, 3, {}), (3, 2, ALL_STATE), (2, None, {}), (4, 1, ALL_STATE)]
)
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


# Communicators


def test_a_communicator_may_leave_sums_to_be_done_at_once(ranks):
    """`start_sum` of the base class."""

    def work(communicator):
        array = np.full(3, communicator.rank + 1.0)
        Communicator.start_sum(communicator, array)()
        return array.tolist()

    assert ranks(2, work) == [[3.0] * 3] * 2
