"""Options of a training: one declaration, from which keywords, docs and the identity of checkpoints follow."""

import inspect
from dataclasses import fields
from typing import get_type_hints

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import ConfigError, StepOptions
from xpnn.backends.constraints import options_of
from xpnn.nn.training.options import TrainingKeywords


def test_the_keywords_that_type_checkers_know_are_the_options():
    hints = get_type_hints(nn.TrainingOptions)
    assert get_type_hints(TrainingKeywords) == {name: hints[name] for name in options_of(nn.TrainingOptions)}


@pytest.mark.parametrize("kind", [StepOptions, nn.TrainingOptions])
def test_each_option_stands_in_the_docs_and_in_the_signature_of_train(kind):
    for name, about in options_of(kind).items():
        assert f"    {name}: {about.metadata['words']}" in kind.__doc__
        assert inspect.signature(nn.train).parameters[name].default == about.default
    assert len(options_of(kind)) == len(fields(kind))


def test_an_option_that_there_is_not_is_named_with_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown option of nn.train 'epoch' \(did you mean 'epochs'"):
        nn.train(nn.MLP([6, 3], backend="numpy"), None, epoch=3)


def test_numbers_of_numpy_are_the_same_identity():
    numpy_s = nn.TrainingOptions(l2=np.float32(0.5), accumulate=np.int64(2), epochs=np.int8(3))
    pythons = nn.TrainingOptions(l2=0.5, accumulate=2, epochs=30)  # more epochs are no other training
    assert numpy_s.identity() == pythons.identity()
    assert nn.TrainingOptions(l2=0.25, accumulate=2).identity() != pythons.identity()


def test_label_smoothing_is_for_rows_of_one_class_each():
    rows = nn.Split(np.zeros((8, 6)), np.zeros((8, 3)))
    with pytest.raises(ConfigError, match="label_smoothing needs rows of one class each, got loss='squared_error'"):
        nn.train(nn.MLP([6, 3], backend="numpy", loss="squared_error"), rows, batch_size=4, label_smoothing=0.1)
