"""Every backend keeps the contract: the tests of `pytest --pyargs xpnn.backends.testing`, with CuPy on the stand-in."""

import inspect
from importlib import import_module

import pytest
from xpnn.backends import Backend
from xpnn.backends.registry import BUILTIN
from xpnn.backends.testing.test_contract import pytest_generate_tests, test_available, test_contract

__all__ = ["pytest_generate_tests", "test_available", "test_contract"]


def class_of(name):
    module, kind = BUILTIN[name]
    return getattr(import_module(f"xpnn.backends.{module}"), kind)


@pytest.mark.parametrize("name", BUILTIN)
def test_a_builtin_class_has_its_name_and_no_public_method_of_its_own(name):
    kind = class_of(name)
    assert kind.name == name
    assert {each for each, value in vars(kind).items() if not each.startswith("_") and callable(value)} <= {
        *dir(Backend)
    }
    assert all(each.default is None for each in inspect.signature(kind).parameters.values()), (
        "it starts without arguments"
    )


def test_the_backends_that_promise_a_compiled_plan():
    assert {name for name in BUILTIN if class_of(name).has_compiled_plan} == {"numba", "cupy", "jax"}
