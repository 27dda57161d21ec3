"""Numbers that settings take, refuse, and keep: of Python, NumPy and fractions, however large."""

from dataclasses import fields
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from xpnn.backends import OPTIMIZERS, ConfigError
from xpnn.backends.constraints import options_of, shown
from xpnn.backends.step_options import StepOptions
from xpnn.nn import TrainingOptions

HUGE = [10**400, -(10**400), 10**5000, Fraction(10**400), Fraction(10**5000, 3), Decimal(10) ** 400]
ROUNDED = [Fraction(1, 10**400), Fraction(10**30 - 1, 10**30)]  # between 0 and 1, and as floats 0 and 1


def numbers_of(kind):
    return [field.name for field in fields(kind) if isinstance(field.default, float)]


@pytest.mark.parametrize("kind", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("number", HUGE, ids=lambda number: f"{type(number).__name__}")
def test_an_optimizer_refuses_what_is_no_float(kind, number):
    for name in numbers_of(kind):
        with pytest.raises(ConfigError, match=f"^{name} of {kind.name} must be a (finite )?number, got "):
            kind(**{name: number})


@pytest.mark.parametrize("number", HUGE, ids=lambda number: f"{type(number).__name__}")
def test_a_setting_refuses_what_is_no_float(number):
    constraints = {name: about.metadata["constraint"] for name, about in options_of(TrainingOptions).items()}
    checked = [name for name, constraint in constraints.items() if constraint and constraint.kind in (int, float)]
    assert {"batch_size", "clip_norm", "l2", "dropout", "epochs"} <= set(checked)
    for name in checked:
        with pytest.raises(ConfigError, match=f"^{name} must be "):
            TrainingOptions(**{name: number})


def test_a_setting_is_held_to_the_float_that_it_becomes():
    for name, number in (("clip_norm", ROUNDED[0]), ("dropout", ROUNDED[1]), ("label_smoothing", ROUNDED[1])):
        with pytest.raises(ConfigError, match=f"^{name} must be "):
            StepOptions(**{name: number})


@pytest.mark.parametrize("number", [Fraction(1, 4), np.float32(0.25), np.float64(0.25), np.longdouble(0.25)])
def test_a_setting_keeps_a_float_of_python(number):
    options = StepOptions(clip_norm=number, l2=number, dropout=number, label_smoothing=number)
    kept = [options.clip_norm, options.l2, options.dropout, options.label_smoothing]
    assert [(type(each), each) for each in kept] == [(float, 0.25)] * 4


def test_a_setting_keeps_a_whole_number_of_python():
    options = TrainingOptions(batch_size=np.uint8(200), epochs=np.int8(3), warmup_steps=np.uint8(250))
    kept = [options.batch_size, options.epochs, options.warmup_steps]
    assert [(type(each), each) for each in kept] == [(int, 200), (int, 3), (int, 250)]
    assert StepOptions(batch_size=None, clip_norm=None).batch_size is None


def test_what_is_shown_of_a_value():
    assert shown(np.float64(0.5)) == "np.float64(0.5)"
    assert shown(10**400) == "1" + 79 * "0"
    assert shown(10**5000) == "a value of type int with thousands of digits"
    assert shown([10**5000]) == "a value of type list with thousands of digits"
