"""Several processes, or shards of a batch, train with the compiled plan: the numbers of one alone."""

import numpy as np
import pytest
from xpnn.backends import (
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
from xpnn.backends.communicator import ALONE, Alone

if reason := why_unavailable("numba"):
    pytest.skip(reason, allow_module_level=True)

from numba.core import config
from xpnn.backends.numba import divided_plan as numba_divided_plan
from xpnn.backends.numba import plan as numba_plan
from xpnn.backends.numba.divided_plan import DividedPlan
from xpnn.backends.numba.plan import NumbaPlan
from xpnn.backends.numba.steps import schedules as numba_schedules

# Hidden units that lead to each schedule; as in backends/numba/test_plan.py, so that the kernels are the same.
HIDDEN = {"units": (37, 9), "two layers": (37,), "rows": (5, 9), "features": (5, 9)}
RULES = {
    "sgd": SGD(0.1),
    "momentum": SGD(0.05, momentum=0.9),
    "nesterov": SGD(0.05, momentum=0.9, nesterov=True),
    "rmsprop": RMSprop(1e-3),
    "adam": Adam(3e-3),
    "adamw": AdamW(3e-3, weight_decay=0.1),
}
FEATURES, CLASSES, COUNT, SHARDS = 19, 3, 45, 5

compiled = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="too slow as plain Python")
every_way = pytest.mark.parametrize("way", list(HIDDEN))
sparse_or_dense = pytest.mark.parametrize("density", [0.3, 1.0], ids=["sparse", "dense"])


@pytest.fixture
def make_plan(make_layers, monkeypatch):
    """`make_plan(way, density, communicator, ...)`: the plan of a job that goes that way."""
    numba = get_backend("numba")

    def make(way, density, communicator=ALONE, optimizer=RULES["adam"], *, loss="softmax_cross_entropy",
             dtype="float64", images="uint8", weighted=False, batch_size=16, count=COUNT, hidden=None,
             activation="tanh", **job):  # fmt: skip
        monkeypatch.setattr(numba_schedules, "LARGE_BATCH", 1 if way == "rows" else 10**9)
        generator = np.random.default_rng(1)
        numbers = generator.integers(1, 256, (count, FEATURES)) * (generator.random((count, FEATURES)) < density)
        if np.dtype(images).kind == "f":
            numbers = numbers / 255
        labels, weights = generator.integers(0, CLASSES, count), generator.integers(0, 3, count).astype(np.float64)
        if loss != "softmax_cross_entropy":
            labels = generator.integers(0, 2, (count, CLASSES)).astype(np.float64)
        rows = numba.place(numbers.astype(images), labels, 1 / 255, weights if weighted else None)
        sizes = (FEATURES, *(HIDDEN[way] if hidden is None else hidden), CLASSES)
        layers = make_layers(numba, sizes, activation=activation, dtype=dtype)
        plan = numba.compile(TrainingJob(layers, optimizer, rows, batch_size, loss, communicator=communicator, **job))
        assert type(plan) is (DividedPlan if plan.job.is_divided else NumbaPlan)
        assert plan._schedule.name == ("units" if way == "two layers" else way)
        assert plan.is_sparse == (density <= 0.5)
        return plan

    return make


def result_of(plan, steps=100):
    """Totals of each run, and all numbers that the steps end with."""
    generator, count, totals = np.random.default_rng(3), len(plan.job.rows.images), []
    while plan.step < steps:
        totals.append(plan.run(generator.permutation(count)))
    return totals, numbers_of(plan)


def numbers_of(plan):
    """All parameters and slots in one array."""
    parameters = [array.ravel() for layer in plan.job.layers for array in (layer.weight, layer.bias)]
    return np.concatenate([*parameters, *(array.ravel() for array in plan.state().values())])


def assert_close(ours, theirs, tolerance=1e-12):
    for one, other in zip(ours[0], theirs[0], strict=True):
        assert one.loss_sum == pytest.approx(other.loss_sum, rel=tolerance, abs=tolerance)
        assert one.rows == other.rows
        assert one.correct == other.correct or tolerance > 1e-10
    np.testing.assert_allclose(ours[1], theirs[1], rtol=tolerance, atol=tolerance)


def assert_same_bits(ours, theirs):
    assert ours[0] == theirs[0]
    np.testing.assert_array_equal(ours[1], theirs[1])


@compiled
@every_way
@sparse_or_dense
@pytest.mark.parametrize(("size", "batch_size"), [(2, 16), (4, COUNT)])
def test_ranks_agree_with_one_process(make_plan, ranks, way, density, size, batch_size):
    """45 rows of bytes in one batch keep their lists by feature; of 16 rows the last batch has 13."""
    alone = result_of(make_plan(way, density, batch_size=batch_size, l2=0.01))
    together = ranks(size, lambda rank: result_of(make_plan(way, density, rank, batch_size=batch_size, l2=0.01)))
    assert_close(together[0], alone)
    for other in together[1:]:
        assert_same_bits(other, together[0])


@compiled
@every_way
@pytest.mark.parametrize("rule", list(RULES))
def test_every_optimizer(make_plan, ranks, way, rule):
    alone = result_of(make_plan(way, 0.3, optimizer=RULES[rule], l2=0.01))
    assert_close(ranks(2, lambda rank: result_of(make_plan(way, 0.3, rank, RULES[rule], l2=0.01)))[0], alone)


@compiled
@every_way
@sparse_or_dense
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error"])
def test_every_loss_with_weights_and_a_penalty_per_batch(make_plan, ranks, way, density, loss):
    job = {"loss": loss, "weighted": True, "l2": 0.5, "l2_per_batch": True}
    alone = result_of(make_plan(way, density, **job))
    assert_close(ranks(3, lambda rank: result_of(make_plan(way, density, rank, **job)))[0], alone)


@compiled
@every_way
@sparse_or_dense
def test_single_precision(make_plan, ranks, way, density):
    alone = result_of(make_plan(way, density, dtype="float32"))
    make = lambda rank: make_plan(way, density, rank, dtype="float32")  # noqa: E731
    assert_close(ranks(2, lambda rank: result_of(make(rank)))[0], alone, 1e-4)


@compiled
@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
@pytest.mark.parametrize(("way", "hidden"), [("units", ()), ("units", (70, 20, 10)), ("features", (3,))])
def test_other_networks_and_units_that_are_padding(make_plan, ranks, way, hidden, activation):
    job = {"hidden": hidden, "activation": activation}
    alone = result_of(make_plan(way, 1.0, **job))
    assert_close(ranks(2, lambda rank: result_of(make_plan(way, 1.0, rank, **job)))[0], alone)


@compiled
@every_way
@sparse_or_dense
def test_a_rank_without_rows_has_a_gradient_of_0(make_plan, ranks, way, density):
    alone = result_of(make_plan(way, density, batch_size=2))
    assert_close(ranks(4, lambda rank: result_of(make_plan(way, density, rank, batch_size=2)))[0], alone)


@compiled
@every_way
@sparse_or_dense
@pytest.mark.parametrize("batch_size", [16, COUNT])
def test_shards_give_the_same_bits_on_any_number_of_ranks_and_threads(
    make_plan, ranks, monkeypatch, way, density, batch_size
):
    """Of 16 rows, 5 shards have three or four, and of the last 13 two or three."""
    job = {"batch_size": batch_size, "shards": SHARDS, "l2": 0.01}
    alone = result_of(make_plan(way, density, **job))
    assert_close(alone, result_of(make_plan(way, density, batch_size=batch_size, l2=0.01)))
    for size in (2, 3, 4):
        for other in ranks(size, lambda rank: result_of(make_plan(way, density, rank, **job))):
            assert_same_bits(other, alone)
    monkeypatch.setattr(numba_plan, "SMALL_STEP", 0)
    monkeypatch.setattr(numba_divided_plan, "SMALL_UPDATE", 0)
    for threads in (2, 3):
        monkeypatch.setattr(numba_plan, "usable_threads", lambda threads=threads: threads)
        plan = make_plan(way, density, **job)
        assert plan._team.threads == plan._steppers.threads == threads
        assert_same_bits(result_of(plan), alone)


@compiled
@every_way
@sparse_or_dense
def test_the_threads_of_a_rank_work_on_its_part_together(make_plan, ranks, monkeypatch, way, density):
    """Two teams of two threads at once."""
    one = ranks(2, lambda rank: result_of(make_plan(way, density, rank)))[0]
    monkeypatch.setattr(numba_plan, "SMALL_STEP", 0)
    monkeypatch.setattr(numba_divided_plan, "SMALL_UPDATE", 0)
    monkeypatch.setattr(numba_plan, "usable_threads", lambda: 2)
    assert_same_bits(ranks(2, lambda rank: result_of(make_plan(way, density, rank)))[0], one)


@compiled
def test_no_order_means_all_rows_as_they_stand(make_plan, ranks):
    alone = make_plan("units", 0.3)
    expected = [alone.run() for _ in range(3)], numbers_of(alone)

    def train(rank):
        plan = make_plan("units", 0.3, rank)
        return [plan.run() for _ in range(3)], numbers_of(plan)

    assert_close(ranks(2, train)[0], expected)


@compiled
def test_an_epoch_does_not_depend_on_how_it_is_divided_into_runs(make_plan):
    order = np.random.default_rng(3).permutation(COUNT)
    whole, divided = (make_plan("units", 0.3, shards=SHARDS) for _ in range(2))
    assert divided.run(order[32:], divided.run(order[:32])) == whole.run(order)
    np.testing.assert_array_equal(numbers_of(divided), numbers_of(whole))
    assert whole.run(order[:0]) == (0.0, 0, 0)
    assert whole.step == 3


@compiled
@every_way
def test_a_run_goes_on_from_its_state_on_another_number_of_ranks(make_plan, ranks, way):
    def first(rank):
        plan = make_plan(way, 0.3, rank, shards=SHARDS)
        result_of(plan, 30)
        return [(layer.weight, layer.bias) for layer in plan.job.layers], plan.state(), plan.step

    def second(rank):
        plan = make_plan(way, 0.3, rank, shards=SHARDS)
        for layer, (weight, bias) in zip(plan.job.layers, parameters, strict=True):
            layer.weight, layer.bias = weight.copy(), bias.copy()
        plan.load_state(state, step)
        return result_of(plan, 60)

    parameters, state, step = ranks(2, first)[0]
    expected = second(ALONE)
    for other in ranks(3, second):
        assert_same_bits(other, expected)
    generic = make_plan(way, 0.3)
    for layer, (weight, bias) in zip(generic.job.layers, parameters, strict=True):
        layer.weight, layer.bias = weight.copy(), bias.copy()
    generic.load_state(state, step)
    assert_close(expected, result_of(generic, 60))


@compiled
def test_a_step_takes_one_sum(make_plan, ranks):
    def calls(rank):
        plan = make_plan("units", 0.3, rank)
        before = len(rank.calls)
        plan.run()
        return rank.calls[before:]

    assert ranks(2, calls) == [["sum"] * 4] * 2  # three of gradients, and one of all steps' losses


class TwoKinds(Alone):
    """Finds another processor on the second of two ranks."""

    size = 2

    def gather(self, array):
        return np.stack([array, array + np.arange(len(array))])


@compiled
def test_processors_of_two_kinds_are_refused(make_plan):
    with pytest.raises(ConfigError, match="rank 1 has a processor with other vector registers than rank 0"):
        make_plan("units", 0.3, TwoKinds())


@compiled
@pytest.mark.parametrize("extra", [{"dropout": 0.5}, {"clip_norm": 1.0}], ids=["dropout", "clipping"])
def test_what_the_kernels_do_not_know_goes_the_generic_way(make_layers, make_problem, extra):
    numba = get_backend("numba")
    rows = numba.place(*make_problem(), 1 / 255)
    job = TrainingJob(make_layers(numba, (6, 4, 3)), SGD(0.1), rows, 5, shards=2, **extra)
    assert type(numba.compile(job)) is GenericPlan


def test_other_backends_compiled_plans_take_undivided_jobs_alone(backend, make_layers, make_problem):
    rows = backend.place(*make_problem(), 1 / 255)
    plan = backend.compile(TrainingJob(make_layers(backend, (6, 4, 3)), SGD(0.1), rows, 5, shards=2))
    assert isinstance(plan, DividedPlan if backend.name == "numba" else GenericPlan)


@sparse_or_dense
@every_way
def test_the_definitions_train_a_network(make_plan, ranks, way, density):
    """Few rows and steps, for plain Python, too; ranks, and shards."""
    hidden = {"units": (9, 5), "two layers": (9,), "rows": (5,), "features": (5,)}[way]
    small = {"count": 7, "batch_size": 4, "l2": 0.01, "hidden": hidden}
    alone = result_of(make_plan(way, density, **small), 4)
    assert_close(ranks(2, lambda rank: result_of(make_plan(way, density, rank, **small), 4))[0], alone)
    assert_close(result_of(make_plan(way, density, shards=3, **small), 4), alone)
