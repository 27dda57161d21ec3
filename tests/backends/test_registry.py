"""Which backends there are, how one is chosen, and what is said when one cannot be had."""

import importlib
import sys

import pytest
from xpnn.backends import (
    SGD,
    Backend,
    BackendUnavailable,
    ConfigError,
    JobOutline,
    available_backends,
    get_backend,
    registered_backends,
    registry,
    why_unavailable,
)
from xpnn.backends.numpy.backend import NumPyBackend

BUILTIN = ["numpy", "numba", "cupy", "torch", "jax", "array-api-strict"]
JOB = JobOutline(sizes=(4, 3), rows=10, epochs=1, optimizer=SGD(0.1))


class Point:
    """An entry point of another package."""

    def __init__(self, name, value):
        self.name, self._value = name, value

    def load(self):
        if isinstance(self._value, Exception):
            raise self._value
        return self._value


@pytest.fixture
def third_party(monkeypatch):
    """`third_party(name, value)`: as if a package had registered `value` under `name`."""
    points = []
    monkeypatch.setattr(registry, "entry_points", lambda *, group: points if group == "xpnn.backends" else [])
    return lambda name, value: points.append(Point(name, value))


@pytest.fixture
def without(monkeypatch):
    """`without(name)`: as if that backend could not be had."""
    load = registry._load_builtin

    def remove(*names):
        def loaded(module, kind):
            for name in names:
                if registry.BUILTIN[name] == (module, kind):
                    raise BackendUnavailable(f"{name} is not here: pip install {name}")
            return load(module, kind)

        monkeypatch.setattr(registry, "_load_builtin", loaded)

    return remove


class Fake(NumPyBackend):
    name = "fake"


# Names


def test_the_builtin_names(third_party):
    assert list(registered_backends()) == BUILTIN
    third_party("fake", Fake)
    assert sorted(registered_backends()) == sorted([*BUILTIN, "fake"])


def test_every_builtin_row_names_its_class():
    for name in ("numpy", "array-api-strict"):
        assert get_backend(name).name == name


def test_numpy_is_always_available():
    assert "numpy" in available_backends()
    assert why_unavailable("numpy") == ""


def test_available_backends_leaves_out_what_cannot_be_had(without):
    without("numba", "cupy", "torch", "jax", "array-api-strict")
    assert available_backends() == ("numpy",)
    assert why_unavailable("numba") == "numba is not here: pip install numba"


def test_each_call_makes_a_new_backend():
    assert get_backend("numpy") is not get_backend("numpy")


def test_a_backend_is_returned_as_it_is():
    backend = Fake()
    assert get_backend(backend) is backend
    assert get_backend(backend, job=JOB) is backend
    assert backend.reason == ""


def test_a_name_of_ours_does_not_look_for_entry_points(monkeypatch):
    monkeypatch.setattr(registry, "entry_points", lambda *, group: pytest.fail(f"looked for {group}"))
    assert get_backend("numpy").name == "numpy"
    assert get_backend("auto").name in BUILTIN


def test_an_unknown_name_suggests_the_nearest(third_party):
    third_party("fake", Fake)
    with pytest.raises(ConfigError, match=r"unknown backend 'nunpy' \(did you mean 'numpy'") as caught:
        get_backend("nunpy")
    for name in (*BUILTIN, "fake"):
        assert name in str(caught.value)
    with pytest.raises(ConfigError, match="did you mean 'cupy'"):
        get_backend("cupi")
    with pytest.raises(ConfigError, match="unknown backend 'qqqq': choose one of "):
        get_backend("qqqq")
    with pytest.raises(ConfigError, match="unknown backend None: choose one of"):
        get_backend(None)
    with pytest.raises(ConfigError, match=r"unknown backend \['numpy'\]"):
        get_backend(["numpy"])


# The choice of auto, without a job; with one: test_choice.py


def test_auto_takes_the_first_that_works_and_says_so():
    chosen = get_backend()
    in_order = [name for name in registry.LEAST_MULTIPLY_ADDS if name in available_backends()]
    assert chosen.name == in_order[0]
    assert chosen.reason.startswith(f"auto chose {chosen.name}: without a job, the first of cupy, numba, numpy that ")


def test_auto_goes_down_the_order(without):
    without("cupy", "numba")
    chosen = get_backend("auto")
    assert chosen.name == "numpy"
    assert chosen.reason == (
        "auto chose numpy: without a job, the first of cupy, numba, numpy that runs here; "
        "cupy is not here: pip install cupy; numba is not here: pip install numba"
    )


def test_a_job_does_not_overrule_a_name():
    assert get_backend("array-api-strict", job=JOB).name == "array-api-strict"


def test_auto_never_takes_what_is_there_for_the_callers_arrays(without):
    without("cupy", "numba", "numpy")
    assert tuple(registry.LEAST_MULTIPLY_ADDS) == ("cupy", "numba", "numpy")
    with pytest.raises(BackendUnavailable):
        get_backend("auto")


def test_auto_with_nothing_that_works_gives_every_reason(without):
    without("cupy", "numba", "numpy")
    with pytest.raises(BackendUnavailable, match=r"pip install cupy; .*pip install numba; .*pip install numpy"):
        get_backend("auto")


# What cannot be had


@pytest.mark.parametrize(
    ("name", "module", "line"),
    [
        ("numba", "numba", 'pip install "numba>=0.61"'),
        ("array-api-strict", "array_api_strict", "pip install array-api-strict"),
        ("cupy", "cupy", "pip install "),
        ("torch", "torch", 'pip install "xpnn[torch]"'),
        ("jax", "jax", 'pip install "xpnn[jax]"'),
    ],
)
def test_a_missing_package_gives_the_line_that_installs_it(monkeypatch, name, module, line):
    if importlib.util.find_spec(f"xpnn.backends.{registry.BUILTIN[name][0]}") is None:
        pytest.skip(f"this installation has no file for {name}")
    for loaded in [each for each in sys.modules if each == module or each.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)  # what makes `import` raise ModuleNotFoundError
    with pytest.raises(BackendUnavailable) as caught:
        get_backend(name)
    assert name in str(caught.value)
    assert line in str(caught.value)
    assert why_unavailable(name) == str(caught.value)
    assert name not in available_backends()


def test_backend_unavailable_is_an_import_error():
    assert issubclass(BackendUnavailable, ImportError)


# Backends of other packages


def test_a_third_party_backend_is_had_by_its_name(third_party):
    third_party("fake", Fake)
    assert isinstance(get_backend("fake"), Fake)
    assert "fake" in available_backends()


def test_a_third_party_backend_has_the_name_of_its_entry_point(third_party):
    """Else a run folder would have a name that no backend goes by."""
    third_party("made", lambda: Fake())
    assert why_unavailable("made") == "backend made has the name 'fake': set it to that of its entry point"


def test_of_several_third_party_backends_each_name_gives_its_own(third_party):
    other = type("Other", (NumPyBackend,), {"name": "other"})
    third_party("fake", Fake)
    third_party("other", other)
    assert type(get_backend("fake")) is Fake
    assert type(get_backend("other")) is other


def test_a_third_party_backend_that_does_not_load_is_unavailable(third_party):
    third_party("broken", ModuleNotFoundError("No module named 'tpu'"))
    with pytest.raises(
        BackendUnavailable, match=r"^backend broken failed to start: ModuleNotFoundError: No module named 'tpu'$"
    ) as caught:
        get_backend("broken")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    assert "broken" not in available_backends()
    assert "numpy" in available_backends()


def test_a_third_party_backend_that_crashes_at_the_start_is_unavailable(third_party):
    def crash():
        raise ZeroDivisionError("no cores")

    third_party("crashing", crash)
    assert why_unavailable("crashing") == "backend crashing failed to start: ZeroDivisionError: no cores"


def test_a_reason_of_the_third_party_backend_itself_is_passed_on(third_party):
    def refuse():
        raise BackendUnavailable("no TPU: pip install tpu")

    third_party("tpu", refuse)
    assert why_unavailable("tpu") == "no TPU: pip install tpu"


def test_a_builtin_name_cannot_be_taken_over(third_party):
    third_party("numpy", Fake)
    assert type(get_backend("numpy")) is NumPyBackend
    assert sorted(registered_backends()) == sorted(BUILTIN)


def test_an_installed_package_registers_by_its_entry_point(tmp_path, monkeypatch):
    (tmp_path / "abacus_for_xpnn.py").write_text(
        "from xpnn.backends.numpy.backend import NumPyBackend\n\nclass Abacus(NumPyBackend):\n    name = 'abacus'\n"
    )
    info = tmp_path / "abacus_for_xpnn-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: abacus-for-xpnn\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[xpnn.backends]\nabacus = abacus_for_xpnn:Abacus\n")
    assert "abacus" not in registered_backends()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "abacus_for_xpnn", raising=False)
    assert "abacus" in registered_backends()
    backend = get_backend("abacus")
    assert isinstance(backend, Backend)
    assert repr(backend) == "<Abacus 'abacus'>"
    assert "abacus" in available_backends()
