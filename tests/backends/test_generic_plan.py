"""What the generic plan does besides gradient and update: weights, dropout, clipping, tiles, a penalty per batch.

That every backend's plan does the same is in the contract.
"""

import numpy as np
import pytest
from xpnn.backends import LOSSES, SGD, Adam, GenericPlan, get_backend
from xpnn.backends.dropout import BLOCK_ROWS, Dropout
from xpnn.backends.numpy import backend as numpy_backend
from xpnn.backends.testing.problem import training_job

SCALE = 1 / 255


@pytest.fixture
def trained(generic, make_layers, make_problem, labels_for, weights_of):
    """`trained(...)`: weights after some epochs of a job in batches of 8, the last one of 7."""

    def run(*, loss="softmax_cross_entropy", weights=None, rows=None, epochs=2, batch_size=8, optimizer=None, **job):
        images, classes = make_problem(23)
        labels = labels_for(loss, classes, 3)
        if rows is not None:
            images, labels = images[rows], labels[rows]
        layers = make_layers(generic, activation="tanh")
        placed = generic.place(images, labels, SCALE, weights)
        plan = generic.compile(
            training_job(layers, placed, optimizer=optimizer or SGD(0.5), batch_size=batch_size, loss=loss, **job)
        )
        totals = [plan.run() for _ in range(epochs)]
        return weights_of(generic, layers), totals

    return run


def close(got, expected):
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-13)


def differ(got, expected):
    assert max(np.abs(one - other).max() for one, other in zip(got, expected, strict=True)) > 1e-4


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("optimizer", [SGD(0.5, momentum=0.5), Adam(0.1)], ids=["momentum", "adam"])
def test_a_weight_counts_as_so_many_copies_of_the_row(trained, loss, optimizer):
    weights = np.array([1.0, 2.0, 0.0, 3.0, 1.0] * 4 + [0.0, 2.0, 1.0])
    weighted, totals = trained(loss=loss, weights=weights, batch_size=23, l2=0.1, optimizer=optimizer)
    copies = np.repeat(np.arange(23), weights.astype(int))
    repeated, expected = trained(loss=loss, rows=copies, batch_size=len(copies), l2=0.1, optimizer=optimizer)
    close(weighted, repeated)
    assert totals[1].loss_sum == pytest.approx(expected[1].loss_sum, rel=1e-12)


def test_weights_of_one_are_no_weights(trained):
    close(trained(weights=np.ones(23))[0], trained()[0])
    close(trained(weights=np.full(23, 0.25))[0], trained()[0])  # the mean is over what they weigh
    differ(trained(weights=np.arange(23.0))[0], trained()[0])


def test_a_batch_that_weighs_nothing_takes_no_step(trained):
    weights = np.ones(23)
    weights[8:16] = 0
    rows = np.r_[0:8, 16:23]
    close(trained(weights=weights)[0], trained(rows=rows)[0])


def test_the_penalty_per_batch_is_divided_by_its_rows(trained):
    close(trained(l2=0.8, l2_per_batch=True, rows=np.arange(16))[0], trained(l2=0.1, rows=np.arange(16))[0])
    differ(trained(l2=0.8, l2_per_batch=True)[0], trained(l2=0.1)[0])  # the last batch has 7 rows, not 8
    weights = np.full(16, 2.0)
    close(
        trained(l2=1.6, l2_per_batch=True, rows=np.arange(16), weights=weights)[0],
        trained(l2=0.1, rows=np.arange(16))[0],
    )


def test_tiles_change_the_rounding_only(trained):
    close(trained(batch_size=2, accumulate=4)[0], trained()[0])
    close(trained(batch_size=2, accumulate=4, weights=np.arange(23.0))[0], trained(weights=np.arange(23.0))[0])
    close(trained(batch_size=2, accumulate=4, dropout=0.5)[0], trained(dropout=0.5)[0])


def test_dropout_leaves_units_out_the_same_ones_everywhere(trained, generic, make_layers, make_problem):
    """One step by hand: hidden layer times 0 or 1/(1 - rate), the same factors on the way back."""
    images, labels = make_problem(23)
    (w1, b1, w2, b2), _ = trained(dropout=0.25, dropout_seed=7, epochs=1, batch_size=23)
    first, last = make_layers(generic, activation="tanh")
    x, factors = images * SCALE, Dropout(0.25, 7).factors(1, 0, 0, 23, 4, "float64")
    assert set(np.unique(factors)) == {0.0, 1 / 0.75}
    hidden = np.tanh(x @ first.weight + first.bias)  # (rows, units)
    kept = hidden * factors
    e = np.exp(kept @ last.weight + last.bias)
    grad = (e / e.sum(axis=1, keepdims=True) - np.eye(3)[labels]) / 23
    grad_hidden = grad @ last.weight.T * factors * (1 - hidden**2)
    expected = [
        first.weight - 0.5 * x.T @ grad_hidden, first.bias - 0.5 * grad_hidden.sum(axis=0),
        last.weight - 0.5 * kept.T @ grad, last.bias - 0.5 * grad.sum(axis=0),
    ]  # fmt: skip
    close([w1, b1, w2, b2], expected)


def test_each_step_layer_and_seed_leaves_out_others():
    one = Dropout(0.5, 3).factors(1, 0, 0, 300, 40, "float32")
    assert one.dtype == np.float32
    assert one.shape == (300, 40)
    others = [
        Dropout(0.5, 3).factors(2, 0, 0, 300, 40, "float32"),
        Dropout(0.5, 3).factors(1, 1, 0, 300, 40, "float32"),
        Dropout(0.5, 4).factors(1, 0, 0, 300, 40, "float32"),
        np.roll(one, BLOCK_ROWS, axis=0),
    ]
    for other in others:
        assert 0.45 < np.mean(one == other) < 0.55  # independent: half of the units agree by chance


@pytest.mark.parametrize("start", [0, 1, 255, 256, 300])
def test_a_tile_draws_what_the_whole_batch_draws(start):
    whole = Dropout(0.3, 5).factors(9, 1, 0, 700, 6, "float64")
    np.testing.assert_array_equal(Dropout(0.3, 5).factors(9, 1, start, 650, 6, "float64"), whole[start:650])


def test_the_share_that_is_left_out_is_the_rate():
    kept = Dropout(0.2, 1).factors(1, 0, 0, 2000, 100, "float64")
    assert np.mean(kept == 0) == pytest.approx(0.2, abs=0.004)
    assert kept.mean() == pytest.approx(1, abs=0.005)


def test_clipping_shortens_the_gradient_of_all_parameters_together(trained):
    before, _ = trained(epochs=0)
    plain, _ = trained(epochs=1, batch_size=23, optimizer=SGD(1.0))
    clipped, _ = trained(epochs=1, batch_size=23, optimizer=SGD(1.0), clip_norm=0.01)
    steps = [now - was for now, was in zip(plain, before, strict=True)]
    norm = np.sqrt(sum((step**2).sum() for step in steps))
    assert norm > 0.01
    close([now - was for now, was in zip(clipped, before, strict=True)], [step * 0.01 / norm for step in steps])


def test_a_short_gradient_is_not_clipped(trained):
    close(trained(clip_norm=1e3)[0], trained()[0])


def test_a_gradient_that_is_not_finite_is_not_hidden_by_clipping(generic, make_layers, make_problem):
    images, labels = make_problem(8, dtype="float64")
    images[0, 0] = np.nan
    layers = make_layers(generic)
    GenericPlan(
        generic,
        training_job(layers, generic.place(images, labels, 1.0), optimizer=SGD(0.1), batch_size=8, clip_norm=1.0),
    ).run()
    assert np.isnan(layers[0].weight).any()


def test_a_batch_is_worked_through_in_tiles_of_at_most_tile_rows(generic, make_layers, small_problem, monkeypatch):
    seen, gather = [], generic.gather
    monkeypatch.setattr(generic, "gather", lambda rows, index, dtype: seen.append(index) or gather(rows, index, dtype))
    generic.tile_rows = 5
    job = training_job(make_layers(generic), generic.place(*small_problem, SCALE), optimizer=SGD(), batch_size=8)
    GenericPlan(generic, job).run(np.arange(23))
    assert [len(index) for index in seen] == [5, 3, 5, 3, 5, 2]


def test_a_run_reads_the_device_once(generic, make_layers, small_problem, monkeypatch):
    reads, to_numpy = [], generic.to_numpy
    plan = GenericPlan(
        generic,
        training_job(make_layers(generic), generic.place(*small_problem, SCALE), optimizer=Adam(), batch_size=8),
    )
    monkeypatch.setattr(generic, "to_numpy", lambda array: reads.append(array) or to_numpy(array))
    plan.run(np.arange(23))
    assert len(reads) == 1


@pytest.mark.parametrize("block", [4, 100])
def test_a_first_run_on_the_host_overwrites_neither_parameters_nor_state(
    make_layers, small_problem, monkeypatch, block
):
    monkeypatch.setattr(numpy_backend, "UPDATE_BLOCK", block)
    backend = get_backend("numpy")
    images, labels = small_problem
    jobs = [
        training_job(make_layers(backend), backend.place(images, labels, SCALE), optimizer=Adam(0.1)) for _ in range(2)
    ]
    whole, resumed = (GenericPlan(backend, job) for job in jobs)
    whole.run()
    state = whole.state()
    for layer, other in zip(jobs[1].layers, jobs[0].layers, strict=True):
        layer.weight, layer.bias = other.weight.copy(), other.bias.copy()
    given = [*state.values(), *(array for layer in jobs[1].layers for array in (layer.weight, layer.bias))]
    before = [array.copy() for array in given]
    resumed.load_state(state, whole.step)
    for plan in (whole, resumed):
        plan.run()
        plan.run()
    for array, kept in zip(given, before, strict=True):
        np.testing.assert_array_equal(array, kept)
    for layer, other in zip(jobs[1].layers, jobs[0].layers, strict=True):
        np.testing.assert_array_equal(layer.weight, other.weight)
        np.testing.assert_array_equal(layer.bias, other.bias)
    for array, other in zip(resumed.final_state().values(), whole.state().values(), strict=True):
        np.testing.assert_array_equal(array, other)
