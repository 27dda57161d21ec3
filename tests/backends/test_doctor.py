"""The report of `xpnn backends`: what it says of packages, driver and devices, and of backends that are broken."""

import dataclasses
import json
import os
import sys
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
        (WrongPlugin, "wrong", "its trial run is off by "),
        (WrongEvaluationPlugin, "wrong", "its trial run is off by "),
        (NotANumberPlugin, "wrong", "its trial run is off by nan, at most 1e-04 is rounding"),
        (CrashingPlugin, "wrong", "its trial run failed: ZeroDivisionError: no luck"),
        (AbsentPlugin, "unavailable", "backend plugin needs the package plug: pip install plug"),
        (BrokenPlugin, "unavailable", "backend plugin failed to start: ZeroDivisionError: at once"),
        (dict, "wrong", "its trial run failed: AttributeError: "),
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


def test_no_choice_is_stated(monkeypatch):
    def refuse(name):
        raise BackendUnavailable(f"{name}: nothing works")

    monkeypatch.setattr(doctor, "get_backend", refuse)
    report = doctor.examine()
    assert report.auto is None
    assert report.auto_reason == "BackendUnavailable: auto: nothing works"
    assert {each.status for each in report.backends} == {"unavailable"}


# CuPy and the driver


def device(index):
    return {"name": b"GPU %d" % index, "totalGlobalMem": (index + 1) << 30, "major": 9, "minor": index}


def cupy_with(properties):
    """A module that tells of two devices."""
    runtime = SimpleNamespace(getDeviceCount=lambda: 2, getDeviceProperties=properties)
    return SimpleNamespace(cuda=SimpleNamespace(runtime=runtime))


@pytest.mark.usefixtures("no_cupy")
@pytest.mark.parametrize(
    ("packages", "driver", "told", "fits", "problem"),
    [
        ({}, None, None, None, ""),
        ({"cupy-cuda13x": "14.2.0"}, (13, 1), "13.1", True, ""),
        ({"cupy-cuda12x": "14.2.0"}, (13, 0), "13.0", True, ""),
        ({"cupy-cuda12x": "14.2.0"}, None, None, None, ""),
        (
            {"cupy-cuda13x": "14.2.0"},
            (12, 8),
            "12.8",
            False,
            "cupy-cuda13x needs a driver for CUDA 13.0 or newer, this one offers 12.8: "
            'pip uninstall -y cupy-cuda13x && pip install "xpnn[cuda12]", or update the driver from '
            "https://www.nvidia.com/drivers",
        ),
        (
            {"cupy-cuda12x": "14.2.0", "cupy-cuda13x": "14.1.0"},
            (13, 0),
            "13.0",
            None,
            "cupy-cuda12x and cupy-cuda13x are installed together and overwrite each other's files: "
            'pip uninstall -y cupy-cuda12x cupy-cuda13x && pip install "xpnn[cuda13]"',
        ),
    ],
)
def test_packages_against_the_driver(monkeypatch, packages, driver, told, fits, problem):
    monkeypatch.setattr(doctor, "installed_cupy", lambda: packages)
    monkeypatch.setattr(doctor, "driver_cuda", lambda: driver)
    monkeypatch.setitem(sys.modules, "cupy", cupy_with(device))  # not asked for devices, since it did not start
    report = doctor.examine()
    assert report.cuda == doctor.Cuda(packages, told, fits, problem, devices=())
    assert report.versions["cupy"] == next(iter(packages.values()), None)


@pytest.mark.parametrize("broken", [False, True])
def test_devices_where_cupy_starts(monkeypatch, broken):
    def properties(index):
        if broken:
            raise RuntimeError("cudaErrorUnknown")
        return device(index)

    monkeypatch.setitem(sys.modules, "cupy", cupy_with(properties))
    monkeypatch.setattr(CuPyBackend, "__init__", lambda self: Backend.__init__(self, compat_numpy))
    found = doctor.examine().cuda.devices  # the trial fails for want of a real CuPy; the devices are told all the same
    assert found == (() if broken else (doctor.Device("GPU 0", 1 << 30, "9.0"), doctor.Device("GPU 1", 2 << 30, "9.1")))


# Processor, BLAS, versions


def test_the_report_is_json():
    told = json.loads(json.dumps(dataclasses.asdict(doctor.examine()), allow_nan=False))
    assert told["versions"]["numpy"] == np.__version__
    assert set(told["versions"]) >= {"python", "xpnn", "numpy", "scipy", "numba", "array-api-compat", "safetensors"}
    assert set(told) == {"versions", "processor", "blas", "cuda", "backends", "auto", "auto_reason"}
    assert told["processor"]["logical_cores"] == os.cpu_count()
    assert 1 <= told["processor"]["usable_cores"] <= os.cpu_count()


CPUINFO = "\n\n".join(
    f"processor\t: {cpu}\nphysical id\t: {socket}\ncore id\t\t: {core}\nflags\t: fpu"
    for cpu, (socket, core) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1), (0, 0), (0, 1), (1, 0), (1, 1)])
)


@pytest.mark.parametrize(
    ("text", "expected"), [(CPUINFO, 4), ("processor\t: 0\nBogoMIPS\t: 50.00\n", None), ("", None)]
)
def test_physical_cores_count_hyperthreads_once(monkeypatch, text, expected):
    monkeypatch.setattr(doctor.Path, "read_text", lambda self, encoding: text)  # noqa: ARG005
    assert doctor._physical_cores() == expected


def test_physical_cores_are_left_open_where_the_system_does_not_tell(monkeypatch):
    def absent(self, encoding):
        raise FileNotFoundError(self, encoding)

    monkeypatch.setattr(doctor.Path, "read_text", absent)
    assert doctor._processor().physical_cores is None


def test_blas_threads_are_those_of_numpy(monkeypatch):
    pools = [
        {"user_api": "openmp", "filepath": "/lib/numpy/libgomp.so", "num_threads": 2},
        {"user_api": "blas", "filepath": "/lib/scipy.libs/libopenblas.so", "num_threads": 3},
        {"user_api": "blas", "filepath": "/lib/numpy.libs/libopenblas.so", "num_threads": 5},
    ]
    monkeypatch.setitem(sys.modules, "threadpoolctl", SimpleNamespace(threadpool_info=lambda: pools))
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "5")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    blas = doctor._blas()
    assert blas.threads == 5
    assert blas.thread_variables["OPENBLAS_NUM_THREADS"] == "5"
    assert blas.thread_variables["MKL_NUM_THREADS"] is None
    pools.pop()
    assert doctor._blas().threads == 3
    pools.clear()
    assert doctor._blas().threads is None


def test_blas_without_threadpoolctl(monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    blas = doctor._blas()
    assert blas.threads is None
    assert blas.name == np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]
