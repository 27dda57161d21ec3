"""Messages of errors on the command line: options in place of the arguments of Python."""

import pytest
from xpnn.nn.cli.ending import with_options
from xpnn.nn.cli.evaluate import evaluate
from xpnn.nn.cli.train import train


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("test_fraction must be in (0, 1), got 2", "--test-fraction must be in (0, 1), got 2"),
        ("a.csv: 3 rows at test_fraction=0.1 leave", "a.csv: 3 rows at --test-fraction 0.1 leave"),
        ("name it by label_column; rows", "name it by --label-column; rows"),
        ("a sum > 0 with class_weight, got 0", "a sum > 0 with --class-weight, got 0"),
        ("learning_rate of adam must be", "--lr of adam must be"),
        ("epochs must be a whole number >= 1", "--epochs must be a whole number >= 1"),
        ("got loss='poisson': leave it out", "got --loss 'poisson': leave it out"),
        ("find where (detect_anomaly=True would)", "find where (--detect-anomaly would)"),
        ("numbers take regression=True", "numbers take --loss squared_error"),
        # what is the user's stays
        ("label_column/batch_size.csv must hold", "label_column/batch_size.csv must hold"),
        ("column 'batch_size' must be numbers", "column 'batch_size' must be numbers"),
        ("column 'a batch_size=3' must be numbers", "column 'a batch_size=3' must be numbers"),
        ("got batch_size, epochs: name one", "got batch_size, epochs: name one"),
        ("the loss must be finite", "the loss must be finite"),
    ],
)
def test_arguments_are_named_as_options(text: str, expected: str) -> None:
    assert with_options(text, train.params) == expected


def test_only_options_of_the_command_are_named() -> None:
    assert with_options("epochs must be 3, batch_size=2", evaluate.params) == "epochs must be 3, batch_size=2"
    assert with_options("test_fraction must be", evaluate.params) == "--test-fraction must be"
    assert with_options("take regression=True", evaluate.params) == "take xpnn train --loss squared_error"
