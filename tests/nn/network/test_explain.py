"""The explanation of a network: the formulas of each loss."""

from xpnn.backends import LOSSES
from xpnn.nn.network.explain import ENDS, backward, forward

SIZES = (3, 4, 2)


def test_every_loss_is_explained():
    assert ENDS.keys() == LOSSES.keys()


def test_a_regression_has_no_probabilities():
    lines = forward(SIZES, "relu", loss="squared_error", rows="three numbers")
    assert [line.name for line in lines] == ["x", "z1", "y1", "outputs", "loss"]
    assert lines[0] == ("x", "(batch, 3)", "three numbers")
    lines = backward(SIZES, "relu", loss="squared_error")
    assert lines[0] == ("grad_outputs", "(batch, 2)", "(outputs - labels) / batch")
    assert lines[1].text == "y1.T @ grad_outputs"
