"""How batches are dealt out to ranks, and how what they find is added up."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xpnn.backends import SGD, GenericPlan, Layer, get_backend
from xpnn.backends.communicator import ALONE
from xpnn.backends.plan import Rows, Totals
from xpnn.backends.reduction import (
    LEAST_BYTES,
    MOST_SHARDS,
    FlatGradients,
    Reduction,
    SumOfShards,
    SumOverRanks,
    reduction_of,
    shards_of,
)
from xpnn.backends.testing.problem import training_job

NUMPY = get_backend("numpy")
QUICK = settings(max_examples=40, deadline=None)
RANKS = st.integers(1, 6)


class Seat:
    """The place of a rank among others, for what asks for nothing else."""

    on_host, overlaps = True, True

    def __init__(self, rank, size):
        self.rank, self.size = rank, size


def small_layers(sizes=(3, 4, 2), dtype="float64"):
    return [Layer(np.zeros((a, b), dtype), np.zeros(b, dtype), "relu") for a, b in pairwise(sizes)]


def random_gradients(layers, seed, dtype="float64"):
    generator = np.random.default_rng(seed)
    return [
        (generator.normal(size=layer.weight.shape).astype(dtype), generator.normal(size=layer.bias.shape).astype(dtype))
        for layer in layers
    ]


def same_bits(one, other):
    for pair, others in zip(one, other, strict=True):
        for a, b in zip(pair, others, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


# Who has which rows


@QUICK
@given(size=RANKS, start=st.integers(0, 50), rows=st.integers(0, 40))
def test_each_rank_has_a_part_of_its_own_and_none_is_left_out(size, start, rows):
    layers, batch = small_layers(), slice(start, start + rows)
    parts = [SumOverRanks(NUMPY, layers, Seat(rank, size)).parts(batch) for rank in range(size)]
    assert [len(of_rank) for of_rank in parts] == [1] * size
    check_division([part for of_rank in parts for part in of_rank], batch)


@QUICK
@given(size=RANKS, more=st.integers(0, 30), start=st.integers(0, 50), rows=st.integers(0, 80))
def test_shards_are_the_same_rows_whoever_has_them(size, more, start, rows):
    shards, layers, batch = size + more, small_layers(), slice(start, start + rows)
    parts = [SumOfShards(NUMPY, layers, Seat(rank, size), shards).parts(batch) for rank in range(size)]
    assert min(map(len, parts)) >= 1
    assert [part for of_rank in parts for part in of_rank] == SumOfShards(NUMPY, layers, ALONE, shards).parts(batch)
    check_division([part for of_rank in parts for part in of_rank], batch)


def check_division(parts, batch):
    """Parts cover a batch, row by row and in order, and are of about the same size."""
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(batch.start, batch.stop))
    counts = [part.stop - part.start for part in parts]
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize(
    ("batch_size", "shards"), [(1, 1), (7, 1), (8, 1), (16, 2), (17, 2), (128, 16), (256, 32), (60_000, 32)]
)
def test_shards_are_of_eight_rows_and_at_most_thirty_two(batch_size, shards):
    assert shards_of(batch_size) == shards <= MOST_SHARDS


def test_the_reduction_is_that_of_the_job():
    rows = Rows(np.zeros((4, 3)), np.zeros(4, np.int64), 1.0)

    def chosen(**options):
        return type(reduction_of(NUMPY, training_job(small_layers(), rows, optimizer=SGD(), batch_size=4, **options)))

    assert chosen() is Reduction
    assert chosen(communicator=Seat(0, 2)) is SumOverRanks
    assert chosen(communicator=Seat(0, 2), shards=2) is SumOfShards
    assert chosen(shards=1) is SumOfShards  # a batch that is small enough to be one shard


def test_one_process_has_whole_batches_and_adds_nothing():
    whole, grads = Reduction(), random_gradients(small_layers(), 1)
    assert whole.parts(slice(3, 9)) == [slice(3, 9)]
    assert whole.gradients([grads]) is grads
    assert whole.totals([Totals(1.5, 2, 3)]) == Totals(1.5, 2, 3)


# The flat buffer


@pytest.mark.parametrize("on_host", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_go_into_the_buffer_and_come_out_as_they_were(backend, make_layers, on_host, dtype):
    if not on_host and backend.name in ("jax", "array-api-strict"):
        pytest.skip(f"no communicator sums arrays of {backend.name} where they are")
    layers = make_layers(backend, (3, 4, 2), dtype=dtype)
    flat, grads = FlatGradients(backend, layers, on_host=on_host), random_gradients(layers, 1, dtype)
    assert tuple(flat.buffer.shape) == (3 * 4 + 4 + 4 * 2 + 2,)
    assert isinstance(flat.buffer, np.ndarray) or not on_host
    for k in reversed(range(2)):
        flat.set(k, tuple(map(backend.put, grads[k])))
    same_bits([tuple(map(backend.to_numpy, pair)) for pair in flat.layers()], grads)
    assert flat.ends == [26, 10]  # the last layer's lies first: it is complete first
    whole = backend.to_numpy(flat.buffer) if not on_host else flat.buffer
    np.testing.assert_array_equal(
        whole, np.concatenate([grads[1][0].ravel(), grads[1][1], grads[0][0].ravel(), grads[0][1]])
    )


# A sum over the ranks


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_gradients_are_summed_in_one_call_a_step(ranks, size):
    layers = small_layers()
    every = [random_gradients(layers, seed) for seed in range(size)]

    def work(communicator):
        reduction, found = SumOverRanks(NUMPY, layers, communicator), []
        for _ in range(2):
            for k in (1, 0):
                reduction.ready(k, every[communicator.rank][k])
            found.append([(w.copy(), b.copy()) for w, b in reduction.gradients([every[communicator.rank]])])
        return found, communicator.calls

    expected = [tuple(sum(grads[k][of] for grads in every) for of in (0, 1)) for k in (0, 1)]
    for found, calls in ranks(size, work):
        assert calls == ["sum"] * 2
        for each in found:
            same_bits(each, expected)


@pytest.mark.parametrize("overlap", [True, False])
def test_sums_of_a_large_network_begin_early_and_in_order(ranks, overlap):
    """Four layers, of which the last two together, then the second, then the first are worth a sum."""
    side = math.isqrt(LEAST_BYTES // 8)
    sizes = (side, side, side, side // 2, side + 2)  # elements: LEAST_BYTES, LEAST_BYTES, a half of it, a little more
    layers = small_layers(sizes)
    every = [random_gradients(layers, seed) for seed in range(2)]

    def work(communicator):
        own, begun = every[communicator.rank], []
        reduction = SumOverRanks(NUMPY, layers, communicator, overlap=overlap)
        for k in reversed(range(4)):
            reduction.ready(k, own[k])
            begun.append(len(communicator.calls))
        return reduction.gradients([own]), begun, communicator.calls

    for found, begun, calls in ranks(2, work):
        assert begun == ([0, 1, 2, 2] if overlap else [0] * 4)
        assert calls == (["start_sum", "start_sum", "sum"] if overlap else ["sum"])
        same_bits(found, [tuple(a + b for a, b in zip(*pairs, strict=True)) for pairs in zip(*every, strict=True)])


def test_totals_are_summed_over_the_ranks(ranks):
    def work(communicator):
        reduction = SumOverRanks(NUMPY, small_layers(), communicator)
        return reduction.totals([Totals(0.5 + communicator.rank, 2, 3 + communicator.rank)])

    assert ranks(3, work) == [Totals(4.5, 6, 12)] * 3


# A sum of shards in one order


@QUICK
@given(size=RANKS, more=st.integers(0, 27), seed=st.integers(0, 1000), exponents=st.integers(0, 30))
def test_shards_sum_to_the_same_bits_on_any_number_of_ranks(ranks, size, more, seed, exponents):
    """float32 numbers of very different sizes, whose sum depends on the order."""
    shards, layers = size + more, small_layers(dtype="float32")
    generator = np.random.default_rng(seed)
    every = []
    for _ in range(shards):
        scale = 2.0 ** generator.integers(-exponents, exponents + 1)
        every.append(
            [(np.float32(scale) * w, np.float32(scale) * b) for w, b in random_gradients(layers, generator, "float32")]
        )
    losses = generator.normal(size=(shards, 5, 2)) * 2.0 ** generator.integers(
        -exponents, exponents + 1, (shards, 1, 1)
    )

    def work(communicator):
        own = slice(
            shards * communicator.rank // communicator.size, shards * (communicator.rank + 1) // communicator.size
        )
        reduction = SumOfShards(NUMPY, layers, communicator, shards)
        assert len(reduction.parts(slice(0, 100))) == own.stop - own.start
        grads = reduction.gradients(every[own])
        return [(w.copy(), b.copy()) for w, b in grads], reduction.total(losses[own]), communicator.calls

    [(alone, total_alone, _)] = ranks(1, work)
    for grads, total, calls in ranks(size, work):
        same_bits(grads, alone)
        np.testing.assert_array_equal(total, total_alone)
        # Gradients and totals take an exchange each of what a rank has: the subtrees of its part of the tree.
        assert set(calls) == {"gather"}
        assert len(calls) <= 2 * max(1, math.ceil(math.log2(shards)))
    expected = [tuple(sum(grads[k][of].astype(float) for grads in every) for of in (0, 1)) for k in (0, 1)]
    for pair, exact in zip(alone, expected, strict=True):
        for a, b in zip(pair, exact, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * 2.0**exponents)


@pytest.mark.parametrize(("size", "exchanges"), [(1, 1), (2, 1), (4, 1), (8, 1), (3, 4), (5, 3), (6, 3), (7, 3)])
def test_powers_of_two_exchange_once(ranks, size, exchanges):
    """32 shards: a power of two of ranks has whole subtrees; others have a few, which they exchange one by one."""

    def work(communicator):
        reduction = SumOfShards(NUMPY, small_layers(), communicator, 32)
        own = len(reduction.parts(slice(0, 32)))
        total = reduction.total(np.ones((own, 1)))
        return total.tolist(), len(communicator.calls)

    assert ranks(size, work) == [([32.0], exchanges)] * size


def test_totals_are_summed_over_the_shards(ranks):
    def work(communicator):
        reduction = SumOfShards(NUMPY, small_layers(), communicator, 5)
        own = reduction.parts(slice(0, 5))
        return reduction.totals([Totals(0.1 * part.start, part.start, 1) for part in own])

    alone = ranks(1, work)[0]
    assert alone.correct == 10
    assert alone.rows == 5
    assert alone.loss_sum == pytest.approx(1.0)
    for size in (2, 3, 5):
        assert ranks(size, work) == [alone] * size


def test_compiled_plans_but_numbas_take_undivided_jobs_alone(backend, make_layers, make_problem):
    rows = backend.place(*make_problem(), 1 / 255)
    plan = backend.compile(
        training_job(make_layers(backend, (6, 4, 3)), rows, optimizer=SGD(0.1), batch_size=5, shards=2)
    )
    assert isinstance(plan, GenericPlan) == (backend.name != "numba")
