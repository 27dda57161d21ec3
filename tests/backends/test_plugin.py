"""The pytest plugin: the fixture `backend`, `--backend NAME`, and the contract by the name of its package."""

import pytest

pytest_plugins = ["pytester"]

PACKAGE = """
from xpnn.backends import BackendUnavailable
from xpnn.backends.numpy.backend import NumPyBackend

class Abacus(NumPyBackend):
    name = "abacus"

def absent():
    raise BackendUnavailable("there is no slide rule: pip install slide-rule")
"""
NAMED = """
def test_named(backend):
    assert backend.name in ("numpy", "abacus")
"""
OWN = """
import sys
import pytest

@pytest.fixture
def backend():
    return 7

def test_own(backend):
    assert backend == 7

@pytest.mark.parametrize("backend", [1, 2])
def test_direct(backend):
    assert backend in (1, 2)

def test_the_plugin_asked_for_no_backend():
    assert not {"numba", "torch", "jax", "array_api_strict"} & {*sys.modules}
"""
NAMES = """
import sys

def test_modules_have_their_full_names_alone():
    assert "xpnn.backends.testing.test_contract" in sys.modules
    assert not {"backends", "test_contract"} & {*sys.modules}
"""


@pytest.fixture
def run(pytester):
    """`run(source, *arguments)` runs pytest on a test module, beside a package with two backends."""
    info = pytester.mkdir("abacus-1.0.dist-info")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: abacus\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[xpnn.backends]\nabacus = abacus:Abacus\nslide-rule = abacus:absent\n")
    pytester.makepyfile(abacus=PACKAGE)

    def tested(source, *arguments):
        pytester.makepyfile(test_it=source)
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error", "-rs", *arguments)

    return tested


def test_the_fixture_has_the_backends_of_the_option(run):
    result = run(NAMED, "--backend", "abacus", "--backend", "numpy", "-v", "test_it.py")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*test_named[[]abacus[]] PASSED*", "*test_named[[]numpy[]] PASSED*"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("abakus", "*must be one of *abacus*numpy*, got 'abakus'"),
        ("slide-rule", "*: there is no slide rule*"),
    ],
)
def test_a_backend_that_is_named_and_not_there_is_an_error(run, name, said):
    result = run(NAMED, "--backend", name, "test_it.py")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([said])


def test_a_fixture_of_the_same_name_is_left_alone(run):
    run(OWN, "test_it.py").assert_outcomes(passed=4)


def test_a_backend_that_cannot_be_had_is_skipped_once(run):
    result = run(NAMES, "--pyargs", "xpnn.backends.testing", "test_it.py", "-k", "available or slide or names")
    reasons = [line for line in result.outlines if line.startswith("SKIPPED") and "slide rule" in line]
    assert len(reasons) == 1
    assert reasons[0].endswith("there is no slide rule: pip install slide-rule")
    result.stdout.no_fnmatch_line("*FAILED*")
