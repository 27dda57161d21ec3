"""JAX: 64 bits for the backend and no one else, steps that are compiled once, and what goes the generic way."""

import dataclasses
import sys
import threading

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import (
    ACTIVATIONS,
    LOSSES,
    SGD,
    Activation,
    Adam,
    BackendUnavailable,
    GenericPlan,
    Optimizer,
    get_backend,
)
from xpnn.backends.testing.problem import training_job

jax = pytest.importorskip("jax")
jnp = jax.numpy
SCALE = 1 / 255


@pytest.fixture
def backend():
    return get_backend("jax")


@pytest.fixture
def job_of(backend, make_layers, small_problem):
    """`job_of(optimizer, batch_size, **options)`: a small training on the backend."""

    def make(optimizer=SGD(0.5), batch_size=8, **options):  # noqa: B008
        return training_job(
            make_layers(backend),
            backend.place(*small_problem, SCALE),
            optimizer=optimizer,
            batch_size=batch_size,
            **options,
        )

    return make


# 64 bits


@pytest.mark.parametrize("detect_anomaly", [False, True])
def test_a_float64_network_is_float64_and_the_caller_keeps_32_bits(make_data, detect_anomaly):
    assert not jax.config.jax_enable_x64
    nets = [nn.MLP([6, 4, 3], backend=each, dtype="float64", seed=3) for each in ("jax", "numpy")]
    histories = [
        nn.train(net, make_data(), optimizer=Adam(0.01), epochs=2, batch_size=8, detect_anomaly=detect_anomaly)
        for net in nets
    ]
    assert histories[0][-1].train_loss == pytest.approx(histories[1][-1].train_loss, rel=1e-13)
    for name, array in nets[0].parameters().items():
        assert array.dtype == np.float64
        np.testing.assert_allclose(array, nets[1].parameters()[name], rtol=1e-10)
    assert nn.evaluate(nets[0], make_data().test).loss == pytest.approx(
        nn.evaluate(nets[1], make_data().test).loss, rel=1e-13
    )
    assert not jax.config.jax_enable_x64
    assert jnp.ones(3).dtype == jnp.asarray(np.ones(3)).dtype == np.float32


@pytest.mark.parametrize("options", [{"dropout": 0.5, "dropout_seed": 3}, {"clip_norm": 0.1}, {"accumulate": 2}])
def test_steps_of_the_generic_plan_are_float64_too(job_of, generic, make_layers, small_problem, options):
    plan = get_backend("jax").compile(job_of(**options))
    assert type(plan) is GenericPlan
    rows = generic.place(*small_problem, SCALE)
    oracle = GenericPlan(generic, training_job(make_layers(generic), rows, optimizer=SGD(0.5), batch_size=8, **options))
    assert plan.run().loss_sum == pytest.approx(oracle.run().loss_sum, rel=1e-13)
    for layer, expected in zip(plan.job.layers, oracle.job.layers, strict=True):
        np.testing.assert_allclose(np.asarray(layer.weight), expected.weight, rtol=1e-12)


def test_the_scope_is_that_of_the_thread(backend):
    seen = []
    with backend.scope():
        assert jnp.ones(1).dtype == np.float64
        thread = threading.Thread(target=lambda: seen.append(jnp.ones(1).dtype))
        thread.start()
        thread.join()
    assert seen == [np.float32]
    assert jnp.ones(1).dtype == np.float32


def test_the_scope_ends_with_an_error(backend):
    with pytest.raises(ZeroDivisionError), backend.scope():
        raise ZeroDivisionError
    assert jnp.ones(1).dtype == np.float32
    with pytest.raises(KeyError):
        backend.linear(backend.put(np.ones((1, 1))), None, None, activation="none")
    assert jnp.ones(1).dtype == np.float32


# Steps


def test_runs_of_any_length_share_a_compilation(backend, job_of):
    from xpnn.backends.jax.plan import take_steps

    plan = backend.compile(job_of(SGD(0.4321)))
    before = take_steps._cache_size()
    for rows in (8, 16, 23, 7, 23):  # whole batches, and a rest of 7 rows
        plan.run(np.arange(rows))
    assert plan.step == 1 + 2 + 3 + 1 + 3
    assert take_steps._cache_size() - before == 2


def test_two_plans_of_one_outline_share_a_compilation(backend, job_of):
    from xpnn.backends.jax.plan import take_steps

    backend.compile(job_of(SGD(0.1234))).run()
    before = take_steps._cache_size()
    backend.compile(job_of(SGD(0.1234))).run()
    assert take_steps._cache_size() == before


def test_an_order_longer_than_the_rows_is_taken_whole(backend, job_of, generic, make_layers, small_problem):
    order = np.tile(np.arange(23), 3)
    plan = backend.compile(job_of())
    oracle = GenericPlan(
        generic,
        training_job(make_layers(generic), generic.place(*small_problem, SCALE), optimizer=SGD(0.5), batch_size=8),
    )
    got, expected = plan.run(order), oracle.run(order)
    assert (got.correct, got.rows, plan.step) == (expected.correct, 69, 9)
    assert got.loss_sum == pytest.approx(expected.loss_sum, rel=1e-13)


def test_a_batch_of_more_rows_than_there_are_is_all_rows(backend, job_of):
    whole, larger = backend.compile(job_of(batch_size=23)), backend.compile(job_of(batch_size=100))
    assert whole.run() == larger.run()
    assert whole.run(np.arange(23)).loss_sum == pytest.approx(larger.run(np.arange(23)).loss_sum, rel=1e-14)


def test_a_changed_table_is_traced_anew(backend, job_of, monkeypatch):
    before = [backend.compile(job_of()).run().loss_sum, float(backend.linear(*ONES(backend), activation="relu")[0, 0])]
    double = Activation(lambda xp, x: 2 * xp.maximum(x, xp.zeros_like(x)), ACTIVATIONS["relu"].backward)
    monkeypatch.setitem(ACTIVATIONS, "relu", double)
    after = [backend.compile(job_of()).run().loss_sum, float(backend.linear(*ONES(backend), activation="relu")[0, 0])]
    assert after[1] == 2 * before[1]
    assert after[0] != before[0]
    loss = LOSSES["softmax_cross_entropy"]
    monkeypatch.setitem(LOSSES, "softmax_cross_entropy", lambda *a, **k: (3 * loss(*a, **k)[0], *loss(*a, **k)[1:]))
    assert backend.compile(job_of(batch_size=23)).run().loss_sum > 2 * after[0]


def ONES(backend):  # noqa: N802
    return [backend.put(np.ones(shape)) for shape in [(2, 3), (3, 4), (4,)]]


@dataclasses.dataclass(frozen=True)
class Sign(Optimizer):
    """One of the user's own, which asks for values that a trace does not have."""

    learning_rate: float = 0.1
    name = "sign"

    def update(self, xp, parameter, grad, state, *, step, learning_rate):
        assert isinstance(step, int)
        return parameter - learning_rate * xp.sign(grad), state


def test_an_optimizer_of_the_users_own_goes_the_generic_way(backend, job_of, generic, make_layers, small_problem):
    plan = backend.compile(job_of(Sign()))
    assert type(plan) is GenericPlan
    oracle = GenericPlan(
        generic,
        training_job(make_layers(generic), generic.place(*small_problem, SCALE), optimizer=Sign(), batch_size=8),
    )
    assert plan.run().loss_sum == pytest.approx(oracle.run().loss_sum, rel=1e-13)


@pytest.mark.parametrize("optimizer", [Adam(0.01, epsilon=1e-3), Adam(0.01, epsilon=1e-3, epsilon_hat=True)])
def test_both_forms_of_epsilon(backend, job_of, generic, make_layers, small_problem, optimizer):
    plan = backend.compile(job_of(optimizer))
    oracle = GenericPlan(
        generic,
        training_job(make_layers(generic), generic.place(*small_problem, SCALE), optimizer=optimizer, batch_size=8),
    )
    plan.run(), oracle.run()
    for layer, expected in zip(plan.job.layers, oracle.job.layers, strict=True):
        np.testing.assert_allclose(np.asarray(layer.weight), expected.weight, rtol=1e-12)


# What it takes for its own, and what cannot be had


def test_own_arrays_have_values_and_are_on_the_device(backend):
    array = jnp.ones((2, 3))
    assert backend.own(array) is array
    assert backend.own(np.ones((2, 3))) is None
    seen = []
    jax.jit(lambda x: seen.append(backend.own(x)) or x)(array)
    assert seen == [None]


def test_without_jax_the_install_line_is_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(BackendUnavailable, match=r'cannot import jax .*pip install "xpnn\[jax\]"'):
        get_backend("jax")


def test_a_device_without_float64_is_refused(monkeypatch):
    monkeypatch.setattr(jnp, "arange", lambda *_, **__: (_ for _ in ()).throw(NotImplementedError("no f64 here")))
    with pytest.raises(BackendUnavailable, match=r"does not run \(no f64 here\): take another device by JAX_PLATFORMS"):
        get_backend("jax")


def test_a_device_that_computes_wrongly_is_refused(monkeypatch):
    monkeypatch.setattr(jnp, "arange", lambda *_, **__: jnp.ones(6))
    with pytest.raises(BackendUnavailable, match=r"gave .* instead of \[\[6, 15\], \[15, 51\]\]"):
        get_backend("jax")
