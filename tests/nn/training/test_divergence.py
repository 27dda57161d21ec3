"""Runs whose numbers stop being finite: noticed, named, and nothing good overwritten."""

import re

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import SGD, Adam, Backend, DivergenceError, GenericPlan
from xpnn.backends.checked_plan import CheckedPlan, NotFinite
from xpnn.backends.numpy.backend import NumPyBackend
from xpnn.backends.testing.problem import training_job
from xpnn.nn.training import divergence


def network(backend="numpy", **options):
    return nn.MLP([6, 4, 3], backend=backend, **({"dtype": "float64", "seed": 3} | options))


def where(error):
    """Return epoch, step of the epoch, and what was found."""
    text = str(error.value)
    found = re.fullmatch(r"the training diverged in epoch (\d+), step (\d+) of \d+: (.*); lower the learning .*", text)
    assert found, text
    return int(found[1]), int(found[2]), found[3]


class Spoil(nn.Callback):
    """Puts a number into an array of the run after a chunk, as an overflow would."""

    def __init__(self, change, *, chunk=1):
        self.change, self.chunk = change, chunk

    def on_chunk_end(self, run):
        self.chunk -= 1
        if self.chunk == 0:
            self.change(run)


class GrowingRate:
    """A schedule that is harmless up to a progress, and then makes a step that overflows."""

    def __init__(self, until):
        self.until = until

    def __call__(self, progress):
        return 1.0 if progress < self.until else 1e300


@pytest.mark.parametrize(("batch_size", "detect_anomaly"), [(8, False), (None, True)])
def test_epoch_step_and_tensor_are_named(every_backend, make_data, batch_size, detect_anomaly):
    """Of 6 epochs the steps from two thirds on are too large: the weights after the first of them still are finite."""
    net = network(every_backend)
    with pytest.raises(DivergenceError) as error:
        nn.train(
            net, make_data().train, optimizer=SGD(0.5), schedule=GrowingRate(2 / 3), epochs=6, batch_size=batch_size,
            detect_anomaly=detect_anomaly,
        )  # fmt: skip
    epoch, step, found = where(error)
    assert (epoch, step) == ((5, 2) if batch_size else (6, 1))
    assert re.fullmatch(r"(inf|-inf|nan) in the (logits|gradient of layers\.\d\.weight) at \[\d+, \d+\]", found)
    assert net.are_finite()


def test_the_network_has_the_weights_before_the_bad_step(make_data):
    options = {"optimizer": SGD(0.5), "batch_size": None}
    net, good = network(), network()
    with pytest.raises(DivergenceError) as error:
        nn.train(net, make_data().train, epochs=4, schedule=GrowingRate(0.5), **options)
    assert where(error)[:2] == (4, 1)
    nn.train(good, make_data().train, epochs=3, schedule=GrowingRate(0.6), **options)
    for name, array in good.parameters().items():
        np.testing.assert_array_equal(net.parameters()[name], array)


def test_the_step_is_found_from_the_last_good_state(make_data, monkeypatch):
    """The state is kept after every chunk here, so that no more than one chunk is taken again."""
    monkeypatch.setattr(divergence, "KEEP_SECONDS", 0.0)
    monkeypatch.setattr(divergence, "KEEP_SHARE", 1e9)
    monkeypatch.setattr("xpnn.nn.training.loop.CHUNK_SECONDS", 0.0)
    net, ran = network(), []
    compiled = net.backend.compile

    def compile_and_count(job):
        plan = compiled(job)
        run = plan.run
        plan.run = lambda *arguments: ran.append(plan.step + 1) or run(*arguments)
        return plan

    net.backend.compile = compile_and_count
    with pytest.raises(DivergenceError) as error:
        nn.train(net, make_data(), optimizer=SGD(0.5), schedule=GrowingRate(2 / 3), epochs=6, batch_size=8)
    assert where(error)[:2] == (5, 2)
    assert ran == [*range(1, 15), 14]


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_an_optimizers_state_that_overflows_is_noticed(make_data, monkeypatch, backend):
    """Squares of gradients overflow float32 long before loss and weights do; Adam then stands still."""
    monkeypatch.setattr(divergence, "KEEP_SECONDS", 0.0)
    data = make_data(dtype="float32")
    data.train.images[:] *= 1e25
    net = network(backend, dtype="float32")
    with pytest.raises(DivergenceError) as error:
        nn.train(net, data.train, optimizer=Adam(1e-30), epochs=3, batch_size=None)
    assert where(error) == (1, 1, "inf in the mean_square of layers.0.weight at [0, 0]")


def test_what_cannot_be_found_again_is_said(make_data):
    def spoil(run):
        run.net.layers[0].weight = run.net.layers[0].weight * np.nan

    with pytest.raises(DivergenceError) as error:
        nn.train(network(), make_data().train, epochs=3, batch_size=None, callbacks=[Spoil(spoil)])
    assert "could not be found again" in where(error)[2]


def test_rows_of_the_test_that_overflow_are_told_apart(make_data):
    data = make_data(dtype="float64")
    data.test.images[:] *= 1e308
    with pytest.raises(DivergenceError, match=r"the test loss of epoch 1 is (inf|nan), though the weights are finite"):
        nn.train(network(), data, batch_size=None)


def test_the_last_good_checkpoint_is_not_touched(make_data, tmp_path, monkeypatch):
    monkeypatch.setattr("xpnn.nn.training.loop.CHUNK_SECONDS", 0.0)

    class Save(nn.Callback):
        def on_chunk_end(self, run):
            run.checkpoint().save(tmp_path / "c")

    with pytest.raises(DivergenceError):
        nn.train(
            network(), make_data(), optimizer=SGD(0.5), schedule=GrowingRate(2 / 3), epochs=6, batch_size=8,
            callbacks=[Save()],
        )  # fmt: skip
    kept = nn.Checkpoint.load(tmp_path / "c")
    assert (kept.epoch, kept.step) == (5, 13)
    assert all(np.isfinite(array).all() for array in kept.parameters.values())


@pytest.mark.parametrize("end", ["at the end", "in a save"])
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_an_optimizers_state_is_looked_at_before_anything_is_kept(make_data, tmp_path, backend, end):
    """However short the training is."""
    data = make_data(dtype="float32")
    data.train.images[8:] *= 1e25
    callbacks = [nn.SaveCheckpoints(tmp_path / "c", every_seconds=0)] if end == "in a save" else []
    with pytest.raises(DivergenceError) as error:
        nn.train(
            network(backend, dtype="float32"), data.train, optimizer=Adam(1e-30), epochs=1, batch_size=8,
            shuffle=False, callbacks=callbacks,
        )  # fmt: skip
    assert where(error)[:2] == (1, 2)


# The plan that looks at every operation


@pytest.fixture
def problem(backend, make_layers, small_problem):
    """A job of two layers on every backend, and its plans."""

    def make(**options):
        layers = make_layers(backend)
        rows = backend.place(*small_problem, 1 / 255)
        return training_job(layers, rows, optimizer=options.pop("optimizer", Adam(0.1)), batch_size=8, **options)

    return make


def test_without_an_anomaly_it_is_the_generic_plan(backend, problem, weights_of):
    jobs = problem(l2=0.1), problem(l2=0.1)
    plans = CheckedPlan(backend, jobs[0]), GenericPlan(backend, jobs[1])
    assert plans[0].run() == plans[1].run()
    for checked, plain in zip(*(weights_of(backend, job.layers) for job in jobs), strict=True):
        np.testing.assert_array_equal(checked, plain)


def test_large_batches_are_added_up_alike(make_layers, make_problem, weights_of):
    backend = NumPyBackend()
    images, labels = make_problem(5000)
    plans, jobs = [], []
    for kind in (CheckedPlan, GenericPlan):
        jobs.append(
            training_job(
                make_layers(backend), backend.place(images, labels, 1 / 255), optimizer=Adam(0.1), batch_size=5000
            )
        )
        plans.append(kind(backend, jobs[-1]))
    assert plans[0].run() == plans[1].run()
    for checked, plain in zip(*(weights_of(backend, job.layers) for job in jobs), strict=True):
        np.testing.assert_array_equal(checked, plain)


def test_an_update_that_overflows_leaves_the_weights_before_it(backend, make_layers, small_problem, weights_of):
    """The first layer is updated when the second one overflows."""
    layers = make_layers(backend, dtype="float32")
    bias = backend.to_numpy(layers[0].bias)
    layers[0].bias = backend.put(bias + np.float32(100))
    before = weights_of(backend, layers)
    plan = CheckedPlan(
        backend, training_job(layers, backend.place(*small_problem, 1 / 255), optimizer=SGD(3e37), batch_size=8)
    )
    with np.errstate(all="ignore"), pytest.raises(NotFinite, match=r"in the updated layers\.1"):
        plan.run()
    for was, now in zip(before, weights_of(backend, layers), strict=True):
        np.testing.assert_array_equal(now, was)


@pytest.mark.parametrize(
    ("parameter", "value", "found"),
    [
        ("weight", np.nan, r"nan in the output of layers\.0 at \[\d+, 1\]"),
        ("bias", np.inf, r"inf in the output of layers\.0 at \[0, 1\]"),
    ],
)
def test_a_bad_parameter_shows_in_the_first_output(backend, problem, parameter, value, found):
    job = problem()
    array = backend.to_numpy(getattr(job.layers[0], parameter))
    array[..., 1] = value
    setattr(job.layers[0], parameter, backend.put(array))
    with np.errstate(all="ignore"), pytest.raises(NotFinite, match=found) as error:
        CheckedPlan(backend, job).run()
    assert error.value.step == 1


class Broken(NumPyBackend):
    """One operation gives a NaN."""

    def __init__(self, operation):
        super().__init__()
        self.operation = operation

    def loss(self, *arguments, **options):
        result = list(super().loss(*arguments, **options))
        if isinstance(self.operation, int):
            result[self.operation] = result[self.operation] * np.nan
        return tuple(result)

    def linear_backward(self, *arguments, **options):
        grads = list(super().linear_backward(*arguments, **options))
        if self.operation in ("grad_x", "grad_weight", "grad_bias"):
            at = ("grad_x", "grad_weight", "grad_bias").index(self.operation)
            grads[at] = None if grads[at] is None else grads[at] * np.nan
        return tuple(grads)

    def update(self, *arguments, **options):
        parameter, state = Backend.update(self, *arguments, **options)
        if self.operation == "parameter":
            parameter = parameter + np.inf
        if self.operation in state:
            state[self.operation] = state[self.operation] * np.nan
        return parameter, state


@pytest.mark.parametrize(
    ("operation", "found"),
    [
        (0, "nan in the loss"),
        (2, "nan in the gradient of the logits at [0, 0]"),
        ("grad_x", "nan in the gradient of the output of layers.0 at [0, 0]"),
        ("grad_weight", "nan in the gradient of layers.1.weight at [0, 0]"),
        ("grad_bias", "nan in the gradient of layers.1.bias at [0]"),
        ("parameter", "inf in the updated layers.0.weight at [0, 0]"),
        ("mean", "nan in the mean of layers.0.weight at [0, 0]"),
        ("mean_square", "nan in the mean_square of layers.0.weight at [0, 0]"),
    ],
)
def test_each_operation_is_looked_at(make_layers, small_problem, operation, found):
    backend = Broken(operation)
    rows = backend.place(*small_problem, 1 / 255)
    plan = CheckedPlan(backend, training_job(make_layers(backend), rows, optimizer=Adam(0.1), batch_size=8))
    with pytest.raises(NotFinite) as error:
        plan.run()
    assert (error.value.step, error.value.found) == (1, found)


def test_images_are_looked_at(make_layers, make_problem):
    backend = NumPyBackend()
    images, labels = make_problem(dtype="float64")
    images[9, 2] = np.inf
    plan = CheckedPlan(
        backend,
        training_job(make_layers(backend), backend.place(images, labels, 1.0), optimizer=Adam(0.1), batch_size=8),
    )
    with np.errstate(all="ignore"), pytest.raises(NotFinite) as error:
        plan.run()
    assert (error.value.step, error.value.found) == (2, "inf in the images at [1, 2]")


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_number_among_many_is_seen(backend, generic, number, dtype):
    for each in (backend, generic):
        arrays = [np.ones((3, 2), dtype=dtype), np.ones(4, dtype=dtype)]
        assert each.all_finite([each.put(array) for array in arrays])
        arrays[1][-1] = number
        assert not each.all_finite([each.put(array) for array in arrays])
