"""The pytest plugin: the fixture `backend`, and `--backend NAME`."""

import sys

import pytest
from xpnn.backends import BackendUnavailable, registry
from xpnn.backends.numpy.backend import NumPyBackend
from xpnn.backends.testing import contract

pytest_plugins = ["pytester"]

ARGUMENTS = ("-p", "no:cacheprovider", "-p", "no:randomly")


class Point:
    """An entry point of another package."""

    def __init__(self, name):
        self.name = name

    def load(self):
        if self.name == "absent":
            raise BackendUnavailable("there is no abacus: pip install abacus")
        return type("Fake", (NumPyBackend,), {"name": "fake"})


@pytest.fixture
def registered(monkeypatch):
    """Only NumPy's backend, and two of another package, one of which cannot be had."""
    monkeypatch.setattr(registry, "BUILTIN", {"numpy": registry.BUILTIN["numpy"]})
    points = [Point("fake"), Point("absent")]
    monkeypatch.setattr(registry, "entry_points", lambda *, group: points if group == "xpnn.backends" else [])


@pytest.fixture
def run(pytester, registered):  # noqa: ARG001
    """`run(source, *arguments)` runs pytest on a test module."""

    def tested(source, *arguments):
        pytester.makepyfile(source)
        return pytester.runpytest_inprocess(*ARGUMENTS, *arguments)

    return tested


ONE = "def test_one(backend):\n    assert backend.name in ('numpy', 'fake')\n"


def test_the_fixture_has_every_backend_that_works(run):
    result = run(ONE, "-v")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines_random(["*test_one[[]numpy[]] PASSED*", "*test_one[[]fake[]] PASSED*"])


def test_the_option_restricts_them(run):
    run(ONE, "--backend", "fake").assert_outcomes(passed=1)
    run(ONE, "--backend", "fake", "--backend", "numpy").assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("name", "said"), [("fike", "*must be one of *fake*numpy*got 'fike'*"), ("absent", "*absent: there is no abacus*")]
)
def test_a_backend_that_is_named_and_not_there_is_an_error(run, name, said):
    result = run(ONE, "--backend", name)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([said])


def test_a_fixture_of_the_same_name_is_left_alone(run, monkeypatch):
    monkeypatch.setattr(registry, "entry_points", lambda **_: pytest.fail("the plugin asked for backends"))
    own = "import pytest\n@pytest.fixture\ndef backend(): return 7\ndef test_own(backend): assert backend == 7\n"
    direct = "@pytest.mark.parametrize('backend', [1, 2])\ndef test_direct(backend): assert backend in (1, 2)\n"
    run(own + direct).assert_outcomes(passed=3)


def test_the_contract_is_collected_by_its_package(run):
    """Under its full name alone; a backend that cannot be had is skipped once, with its reason."""
    names = "import sys\ndef test_names():\n    assert not {'backends', 'test_contract'} & {*sys.modules}\n"
    result = run(names, "-rs", "--pyargs", "xpnn.backends.testing", "test_the_contract_is_collected_by_its_package.py")
    result.assert_outcomes(passed=2 * len(contract()) + 3, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*: there is no abacus: pip install abacus"])
    assert "xpnn.backends.testing.test_contract" in sys.modules
