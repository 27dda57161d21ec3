"""Several processes, or shards of a batch, train with the compiled plan: the numbers of one alone."""

import numpy as np
import pytest
from numba.core import config
from xpnn.backends import ConfigError
from xpnn.backends.communicator import ALONE, Alone
from xpnn.backends.numba import divided_plan as numba_divided_plan
from xpnn.backends.numba import engine as numba_engine
from xpnn.backends.numba.divided_plan import DividedPlan
from xpnn.backends.numba.plan import NumbaPlan

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="too slow as plain Python")

COUNT, SHARDS = 45, 5
WEIGHTS = np.random.default_rng(2).integers(0, 3, COUNT).astype(np.float64)

# One of each way, in float64: what is compared differs by rounding alone.
every_way = pytest.mark.parametrize(
    "kind", ["units-sparse", "two layers-sparse", "rows-dense", "features-dense"], indirect=True
)
one_way = pytest.mark.parametrize("kind", ["units-sparse"], indirect=True)


@pytest.fixture
def make(make_plan, rules):
    """`make(kind, communicator, ...)`: the plan of a job that is divided among its ranks and shards."""

    def make(kind, communicator=ALONE, optimizer=rules["adam"], *, batch_size=16, count=COUNT, **job):
        plan = make_plan(kind, optimizer, communicator=communicator, batch_size=batch_size, count=count, **job)
        assert type(plan) is (DividedPlan if plan.job.is_divided else NumbaPlan)
        return plan

    return make


@pytest.fixture
def result_of(numbers_of):
    """`result_of(plan, steps=100)`: totals of each run, and all numbers that the steps end with."""

    def result(plan, steps=100):
        generator, count, totals = np.random.default_rng(3), len(plan.job.rows.images), []
        while plan.step < steps:
            totals.append(plan.run(generator.permutation(count)))
        return totals, numbers_of(plan)

    return result


def assert_close(ours, theirs, tolerance=1e-12):
    for one, other in zip(ours[0], theirs[0], strict=True):
        assert one.loss_sum == pytest.approx(other.loss_sum, rel=tolerance, abs=tolerance)
        assert one.rows == other.rows
        assert one.correct == other.correct or tolerance > 1e-10
    np.testing.assert_allclose(ours[1], theirs[1], rtol=tolerance, atol=tolerance)


def assert_same_bits(ours, theirs):
    assert ours[0] == theirs[0]
    np.testing.assert_array_equal(ours[1], theirs[1])


@every_way
@pytest.mark.parametrize(("size", "batch_size"), [(2, 16), (4, COUNT), (4, 2)])
def test_ranks_agree_with_one_process(make, result_of, ranks, kind, size, batch_size):
    """45 rows of sparse bytes in one batch keep their lists; of 16 the last has 13; of 2, some ranks have none."""
    job = {"batch_size": batch_size, "l2": 0.01}
    alone = result_of(make(kind, **job))
    together = ranks(size, lambda rank: result_of(make(kind, rank, **job)))
    assert_close(together[0], alone)
    for other in together[1:]:
        assert_same_bits(other, together[0])


@one_way
def test_every_optimizer(make, result_of, ranks, kind, rule):
    alone = result_of(make(kind, optimizer=rule, l2=0.01))
    assert_close(ranks(2, lambda rank: result_of(make(kind, rank, rule, l2=0.01)))[0], alone)


@every_way
def test_weights_and_a_penalty_per_batch(make, result_of, ranks, kind):
    job = {"weights": WEIGHTS, "l2": 0.5, "l2_per_batch": True}
    alone = result_of(make(kind, **job))
    assert_close(ranks(3, lambda rank: result_of(make(kind, rank, **job)))[0], alone)


@pytest.mark.parametrize("kind", ["rows-sparse"], indirect=True)
@pytest.mark.parametrize("batch_size", [16, COUNT])
def test_single_precision(make, result_of, ranks, kind, batch_size):
    alone = result_of(make(kind, batch_size=batch_size))
    assert_close(ranks(2, lambda rank: result_of(make(kind, rank, batch_size=batch_size)))[0], alone, 1e-4)


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
@pytest.mark.parametrize(
    ("kind", "hidden"),
    [("units-sparse", ()), ("units-sparse", (70, 20, 10)), ("features-dense", (3,))],
    indirect=["kind"],
)
def test_other_networks_and_units_that_are_padding(make, result_of, ranks, kind, hidden, activation):
    job = {"hidden": hidden, "activation": activation}
    alone = result_of(make(kind, **job))
    assert_close(ranks(2, lambda rank: result_of(make(kind, rank, **job)))[0], alone)


@every_way
@pytest.mark.parametrize("batch_size", [16, COUNT])
def test_shards_give_the_same_bits_on_any_number_of_ranks_and_threads(
    make, result_of, ranks, monkeypatch, kind, batch_size
):
    """Of 16 rows, 5 shards have three or four, and of the last 13 two or three."""
    job = {"batch_size": batch_size, "shards": SHARDS, "l2": 0.01}
    alone = result_of(make(kind, **job))
    assert_close(alone, result_of(make(kind, batch_size=batch_size, l2=0.01)))
    for size in (2, 3, 4):
        for other in ranks(size, lambda rank: result_of(make(kind, rank, **job))):
            assert_same_bits(other, alone)
    monkeypatch.setattr(numba_engine, "SMALL_STEP", 0)
    monkeypatch.setattr(numba_divided_plan, "SMALL_UPDATE", 0)
    for threads in (2, 3):
        monkeypatch.setattr(numba_engine, "usable_threads", lambda threads=threads: threads)
        plan = make(kind, **job)
        assert plan._engine.team.threads == plan._steppers.threads == threads
        assert_same_bits(result_of(plan), alone)


@every_way
def test_the_threads_of_a_rank_work_on_its_part_together(make, result_of, ranks, monkeypatch, kind):
    """Two teams of two threads at once."""
    one = ranks(2, lambda rank: result_of(make(kind, rank)))[0]
    monkeypatch.setattr(numba_engine, "SMALL_STEP", 0)
    monkeypatch.setattr(numba_divided_plan, "SMALL_UPDATE", 0)
    monkeypatch.setattr(numba_engine, "usable_threads", lambda: 2)
    assert_same_bits(ranks(2, lambda rank: result_of(make(kind, rank)))[0], one)


@one_way
def test_no_order_means_all_rows_as_they_stand(make, numbers_of, ranks, kind):
    alone = make(kind)
    expected = [alone.run() for _ in range(3)], numbers_of(alone)

    def train(rank):
        plan = make(kind, rank)
        return [plan.run() for _ in range(3)], numbers_of(plan)

    assert_close(ranks(2, train)[0], expected)


@one_way
def test_an_epoch_does_not_depend_on_how_it_is_divided_into_runs(make, numbers_of, kind):
    order = np.random.default_rng(3).permutation(COUNT)
    whole, divided = (make(kind, shards=SHARDS) for _ in range(2))
    assert divided.run(order[32:], divided.run(order[:32])) == whole.run(order)
    np.testing.assert_array_equal(numbers_of(divided), numbers_of(whole))
    assert whole.run(order[:0]) == (0.0, 0, 0)
    assert whole.step == 3


@every_way
def test_a_run_is_resumed_on_another_number_of_ranks(make, result_of, ranks, kind):
    def first(rank):
        plan = make(kind, rank, shards=SHARDS)
        result_of(plan, 30)
        return [(layer.weight, layer.bias) for layer in plan.job.layers], plan.state(), plan.step

    def second(rank):
        plan = make(kind, rank, shards=SHARDS)
        for layer, (weight, bias) in zip(plan.job.layers, parameters, strict=True):
            layer.weight, layer.bias = weight.copy(), bias.copy()
        plan.load_state(state, step)
        return result_of(plan, 60)

    parameters, state, step = ranks(2, first)[0]
    expected = second(ALONE)
    for other in ranks(3, second):
        assert_same_bits(other, expected)
    undivided = make(kind)
    for layer, (weight, bias) in zip(undivided.job.layers, parameters, strict=True):
        layer.weight, layer.bias = weight.copy(), bias.copy()
    undivided.load_state(state, step)
    assert_close(expected, result_of(undivided, 60))


@one_way
def test_a_step_takes_one_sum(make, ranks, kind):
    def calls(rank):
        plan = make(kind, rank)
        before = len(rank.calls)
        plan.run()
        return rank.calls[before:]

    assert ranks(2, calls) == [["sum"] * 4] * 2  # three of gradients, and one of all steps' losses


class TwoKinds(Alone):
    """Finds another processor on the second of two ranks."""

    size = 2

    def gather(self, array):
        return np.stack([array, array + np.arange(len(array))])


@one_way
def test_processors_of_two_kinds_are_refused(make, kind):
    with pytest.raises(ConfigError, match="rank 1 has a processor with other vector registers than rank 0"):
        make(kind, TwoKinds())


@every_way
def test_dropout_and_clipping(make, result_of, ranks, monkeypatch, kind):
    """A part of a batch has the masks that its rows have in the whole, and the norm is that of the sum of all parts."""
    job = {"dropout": 0.3, "dropout_seed": 5, "clip_norm": 0.2, "l2": 0.01}
    alone = result_of(make(kind, **job))
    together = ranks(3, lambda rank: result_of(make(kind, rank, **job)))
    assert_close(together[0], alone)
    shards = result_of(make(kind, shards=SHARDS, **job))
    assert_close(shards, alone)
    for other in ranks(2, lambda rank: result_of(make(kind, rank, shards=SHARDS, **job))):
        assert_same_bits(other, shards)
    monkeypatch.setattr(numba_engine, "SMALL_STEP", 0)
    monkeypatch.setattr(numba_divided_plan, "SMALL_UPDATE", 0)
    monkeypatch.setattr(numba_engine, "usable_threads", lambda: 3)
    assert_same_bits(result_of(make(kind, shards=SHARDS, **job)), shards)
    assert_same_bits(ranks(3, lambda rank: result_of(make(kind, rank, **job)))[0], together[0])
