"""The report of `xpnn backends`: what it says of the machine, and of backends that are broken."""

import dataclasses
import json
import os
from types import SimpleNamespace

import array_api_compat.numpy as compat_numpy
import numpy as np
import pytest
from xpnn.backends import Backend, BackendUnavailable, GenericPlan, Totals, doctor, registry
from xpnn.backends.cupy.backend import CuPyBackend

WORKING = {"numpy", "numba", "array-api-strict"}  # what the tests' own installation always has


class Plugin(Backend):
    """A backend of another package, which computes as the generic one does."""

    name = "plugin"

    def __init__(self):
        super().__init__(compat_numpy)


class WrongPlugin(Plugin):
    def linear(self, x, weight, bias, *, activation):
        return super().linear(x, weight * 1.001, bias, activation=activation)


class NotANumberPlugin(Plugin):
    def linear(self, x, weight, bias, *, activation):
        return super().linear(x, weight, bias * np.nan, activation=activation)


class WrongEvaluationPlugin(Plugin):
    def evaluate(self, layers, rows, *, loss="softmax_cross_entropy"):
        loss_sum, correct, count = super().evaluate(layers, rows, loss=loss)
        return Totals(loss_sum, correct + 1, count)


class CrashingPlugin(Plugin):
    def compile(self, job):
        class CrashingPlan(GenericPlan):
            def run(self, order=None, totals=None):  # noqa: ARG002
                raise ZeroDivisionError("no\nluck")

        return CrashingPlan(self, job)


class AbsentPlugin(Plugin):
    def __init__(self):
        raise BackendUnavailable("backend plugin needs the package plug: pip install plug")


class BrokenPlugin(Plugin):
    def __init__(self):
        raise ZeroDivisionError("at once")


@pytest.fixture
def install(monkeypatch):
    """`install(PluginClass)` registers a backend "plugin" as another package would."""

    def register(kind):
        point = SimpleNamespace(name="plugin", load=lambda: kind)
        monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == "xpnn.backends" else [])

    return register


@pytest.fixture
def no_cupy(monkeypatch):
    """A machine on which the CuPy backend does not start."""

    def refuse(_):
        raise BackendUnavailable("backend cupy: not here")

    monkeypatch.setattr(CuPyBackend, "__init__", refuse)


# Backends


def test_every_registered_backend_is_tried():
    report = doctor.examine()
    assert [each.name for each in report.backends] == list(registry.registered_backends())
    by_name = {each.name: each for each in report.backends}
    for name in WORKING:
        assert by_name[name].status == "ok", by_name[name].reason
        assert by_name[name].reason == ""
        assert 0 < by_name[name].error < 1e-6  # it is float32 that ran, and nearly the float64 result
        assert by_name[name].seconds > 0


@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [
        (Plugin, "ok", ""),
        (WrongPlugin, "wrong", "its trial run deviates by "),
        (WrongEvaluationPlugin, "wrong", "its trial run deviates by "),
        (NotANumberPlugin, "wrong", "its trial run deviates by nan, at most 1e-04 is rounding"),
        (CrashingPlugin, "wrong", "its trial run failed: ZeroDivisionError: no luck"),
        (AbsentPlugin, "unavailable", "backend plugin needs the package plug: pip install plug"),
        (BrokenPlugin, "unavailable", "backend plugin failed to start: ZeroDivisionError: at once"),
        (dict, "unavailable", "backend plugin has the name None: set it to that of its entry point"),
    ],
)
def test_a_third_party_backend_is_judged_by_its_trial(install, kind, status, reason):
    install(kind)
    tried = doctor.try_backend("plugin")
    assert (tried.name, tried.status) == ("plugin", status)
    assert tried.reason.startswith(reason)
    assert bool(tried.reason) == (status != "ok")
    if kind is WrongPlugin:
        assert 1e-4 < tried.error < 1e-2
    if kind in (NotANumberPlugin, CrashingPlugin, AbsentPlugin):
        assert tried.error is None


@pytest.mark.parametrize("kind", [NotANumberPlugin, CrashingPlugin, BrokenPlugin])
def test_a_broken_backend_does_not_break_the_report(install, kind):
    install(kind)
    report = doctor.examine()
    assert {each.name for each in report.backends if each.status == "ok"} >= WORKING
    assert next(each for each in report.backends if each.name == "plugin").status != "ok"
    json.dumps(dataclasses.asdict(report), allow_nan=False)


def test_the_trial_is_three_steps_that_change_every_parameter():
    numbers = doctor.trial(doctor.ArrayAPIBackend(compat_numpy), "float64")
    assert numbers.shape == (3 + 3 + 5 * 4 + 4 + 4 * 3 + 3,)  # sums of training and evaluation, weights and biases
    assert numbers[2] == numbers[5] == 24
    assert np.all(numbers[26:30] != 0.5)  # every hidden unit took part
    assert np.all(numbers[42:45] != 0)
    assert numbers[3] < numbers[0]  # the loss went down


@pytest.mark.usefixtures("no_cupy")
def test_auto_and_what_it_passed_over():
    report = doctor.examine()
    assert report.auto == "numba"
    assert report.auto_reason == registry.get_backend("auto").reason != ""
    cupy = next(each for each in report.backends if each.name == "cupy")
    assert (cupy.status, cupy.reason) == ("unavailable", "backend cupy: not here")


# The machine


def test_the_report_is_json():
    told = json.loads(json.dumps(dataclasses.asdict(doctor.examine()), allow_nan=False))
    assert told["versions"]["numpy"] == np.__version__
    assert set(told["versions"]) >= {"python", "xpnn", "scipy", "numba", "array-api-compat", "safetensors", "cupy"}
    assert set(told) == {"versions", "hardware", "blas", "gpus", "backends", "auto", "auto_reason"}
    assert 1 <= told["hardware"]["cores"] <= os.cpu_count()


@pytest.mark.usefixtures("no_cupy")
def test_no_devices_where_cupy_does_not_start():
    report = doctor.examine()
    assert (report.gpus, report.versions["cupy"]) == ((), None)


def test_devices_where_cupy_starts(cupy, monkeypatch):
    def examine():
        """Without the trial, which would build kernels."""
        monkeypatch.setattr(doctor, "try_backend", lambda name: doctor.BackendReport(name, "ok", "", 0.0, 0.0))
        return doctor.examine()

    cupy.cuda.device.count = 2
    report = examine()
    assert report.versions["cupy"] == cupy.__version__
    assert report.gpus == ("Stand-in GPU, 16 GiB, compute capability 9.0, driver for CUDA 13.1",) * 2


def test_blas_is_numpys_own(monkeypatch):
    def pool(folder, threads, user_api="blas"):
        name = {"user_api": user_api, "internal_api": "openblas", "version": "0.3.29"}
        return name | {"filepath": f"/lib/{folder}/libopenblas.so", "num_threads": threads}

    pools = [pool("numpy", 2, "openmp"), pool("scipy.libs", 3), pool("numpy.libs", 5)]
    monkeypatch.setattr(doctor, "threadpool_info", lambda: pools)
    assert doctor._blas() == "openblas 0.3.29, 5 threads"
    pools.pop()
    assert doctor._blas() == "openblas 0.3.29, 3 threads"
    pools.clear()
    assert doctor._blas() == "unknown"
