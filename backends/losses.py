"""Loss functions and their gradients.

A loss maps the last layer's outputs, (rows, outputs), to the sum of the rows' losses (0-d, float64), the number of
correctly classified rows (0-d, integer), and the gradient of the *mean* loss over the batch with respect to the
outputs, (rows, outputs). The mean is over `batch_size`: the rows of the whole step, of which those given may be a tile.
With row weights, (rows,) of float64, loss and gradient are weighted, and `batch_size` is the sum of the weights.

A new loss is a function and a row in `LOSSES`, and its interpretation of the outputs a row in `nn/network/outputs.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

from .activations import Array
from .constraints import POSITIVE, Constraint, is_finite_number
from .errors import ConfigError
from .lookup import look_up

Loss = Callable[..., tuple[Array, Array, Array]]


def _shifted(xp: Any, logits: Array) -> tuple[Array, Array, Array]:
    """Subtract the maximum logit `m` of each row, and leave it out of the sum of exponentials.

    The maximum contributes exactly 1, and `1 + rest` would lose a small rest. Computed in float64, since rounding the
    difference to float32 would cost its exponential a digit or two.

    Returns:
        `z - m` and `exp(z - m)`, (rows, classes), and the sum of the latter over all but one largest, (rows, 1).
    """
    z = xp.asarray(logits, dtype=xp.float64)  # (rows, classes)
    shifted = z - xp.max(z, axis=1, keepdims=True)  # (rows, classes), at most 0: no exponential overflows
    e = xp.exp(shifted)  # (rows, classes)
    is_largest = xp.argmax(z, axis=1)[:, None] == xp.arange(z.shape[1])[None, :]  # (rows, classes), one in each row
    rest = xp.sum(xp.where(is_largest, xp.zeros_like(e), e), axis=1, keepdims=True)  # (rows, 1)
    return shifted, e, rest


def log_softmax(xp: Any, logits: Array) -> Array:
    """Logarithm of the softmax, accurate to a few roundings for logits of any size.

    With `m = max(z)` and `rest` the sum of `exp(z - m)` over all but one largest, `log softmax(z) = (z - m) -
    log1p(rest)`: no overflow, and no cancellation for probabilities close to 1 (Blanchard, Higham and Higham 2021,
    section 4).

    Args:
        xp: the array namespace.
        logits: (batch, classes), finite.

    Returns:
        (batch, classes) of the logits' dtype, every entry at most 0, clipped to the dtype's range.
    """
    shifted, _, rest = _shifted(xp, logits)
    result = shifted - xp.log1p(rest)  # (batch, classes)
    least = xp.full_like(result, xp.finfo(logits.dtype).min)
    return xp.asarray(xp.where(result < least, least, result), dtype=logits.dtype)  # this way round a NaN stays one


def softmax(xp: Any, logits: Array) -> Array:
    """Softmax of finite logits, (batch, classes), accurate to a few roundings and without overflow; of their dtype."""
    z = xp.asarray(logits, dtype=xp.float64)  # (batch, classes)
    e = xp.exp(z - xp.max(z, axis=1, keepdims=True))  # (batch, classes)
    return xp.asarray(e / xp.sum(e, axis=1, keepdims=True), dtype=logits.dtype)


def softmax_cross_entropy(
    xp: Any, logits: Array, labels: Array, *, batch_size: float, weights: Array | None = None
) -> tuple[Array, Array, Array]:
    """Cross-entropy of the softmax of `logits`, with `d loss / d logits = (softmax(logits) - one_hot) / batch_size`.

    Losses and gradients are accurate to a few roundings for all finite logits, also for labels of probability close
    to 1. Only a loss beyond float64's range, of logits above 8e307, is infinite.

    Labels are integers in [0, classes), (rows,); losses are in nats. Source: Bishop 2006, section 4.3.4; for the
    numerics, see `log_softmax`.
    """
    classes = xp.arange(logits.shape[1], dtype=labels.dtype)  # (classes,)
    one_hot = labels[:, None] == classes[None, :]  # (rows, classes)
    shifted, e, rest = _shifted(xp, logits)  # (rows, classes), (rows, classes), (rows, 1)
    losses = xp.where(one_hot, xp.log1p(rest) - shifted, xp.zeros_like(shifted))  # (rows, classes), one in each row
    correct = xp.sum(xp.astype(xp.argmax(logits, axis=1) == labels, labels.dtype))
    # A probability is e / (1 + rest), and less 1 it is (e - 1 - rest) / (1 + rest), where e - 1 is 0 for the largest.
    grad_logits = xp.where(one_hot, (e - 1) - rest, e) / ((1 + rest) * batch_size)  # (rows, classes)
    loss_sum, grad_logits = _weighted(xp, losses, grad_logits, weights)
    return loss_sum, correct, xp.astype(grad_logits, logits.dtype)


def sigmoid_cross_entropy(
    xp: Any, logits: Array, labels: Array, *, batch_size: float, weights: Array | None = None
) -> tuple[Array, Array, Array]:
    """Binary cross-entropy of the sigmoid of each of the `logits`, summed over the outputs of a row.

    With `p = sigmoid(z)` an output's loss is `-y log p - (1 - y) log(1 - p) = max(z, 0) - y z + log1p(exp(-|z|))`, and
    its derivative `p - y`; neither overflows.

    Labels are floating, each 0 or 1, (rows, outputs): multi-label classification. A row is correct if every output is
    on the right side of 0; losses are in nats. Source: Bishop 2006, sections 4.3.2 and 5.2.
    """
    z, y = xp.astype(logits, xp.float64), xp.astype(labels, xp.float64)  # (rows, outputs) each
    positive, e = z > 0, xp.exp(-xp.abs(z))  # (rows, outputs), (rows, outputs) in [0, 1]
    losses = xp.where(positive, z, xp.zeros_like(z)) - y * z + xp.log1p(e)
    p, q = xp.where(positive, xp.ones_like(e), e) / (1 + e), xp.where(positive, e, xp.ones_like(e)) / (1 + e)
    grad_logits = (p * (1 - y) - q * y) / batch_size  # (rows, outputs): p - y without cancelling, since q = 1 - p
    correct = xp.sum(xp.astype(xp.all(positive == (y > 0.5), axis=1), xp.int64))
    loss_sum, grad_logits = _weighted(xp, losses, grad_logits, weights)
    return loss_sum, correct, xp.astype(grad_logits, logits.dtype)


# Losses of regression: labels are the targets, floating, (rows, outputs). A row's loss is the sum over its outputs, and
# no row is correct.


def squared_error(
    xp: Any, outputs: Array, labels: Array, *, batch_size: float, weights: Array | None = None
) -> tuple[Array, Array, Array]:
    """Half the squared error, `(y - t)^2 / 2` for output `y` and target `t`; predicts the mean.

    Source: Bishop 2006, section 5.2.
    """
    error = _errors(xp, outputs, labels)  # (rows, outputs)
    return _of_outputs(xp, outputs, error * error / 2, error, batch_size, weights)


def absolute_error(
    xp: Any, outputs: Array, labels: Array, *, batch_size: float, weights: Array | None = None
) -> tuple[Array, Array, Array]:
    """Absolute error, `|y - t|`, with the gradient 0 where it is 0; predicts the median.

    Source: Bishop 2006, section 1.5.5.
    """
    error = _errors(xp, outputs, labels)  # (rows, outputs)
    slope = xp.sign(error)  # (rows, outputs)
    return _of_outputs(xp, outputs, slope * error, slope, batch_size, weights)


def huber(
    xp: Any, outputs: Array, labels: Array, *, batch_size: float, weights: Array | None = None, delta: float = 1.0
) -> tuple[Array, Array, Array]:
    """Huber loss, `e^2 / 2` for errors `e = y - t` up to `delta`, and `delta (|e| - delta / 2)` beyond.

    `delta` is in units of the targets; where they are standardized, in standard deviations.
    Source: Huber 1964, section 2.
    """
    error = _errors(xp, outputs, labels)  # (rows, outputs)
    slope = xp.where(xp.abs(error) <= delta, error, delta * xp.sign(error))  # (rows, outputs)
    return _of_outputs(xp, outputs, slope * (error - slope / 2), slope, batch_size, weights)


def quantile(
    xp: Any, outputs: Array, labels: Array, *, batch_size: float, weights: Array | None = None, level: float = 0.5
) -> tuple[Array, Array, Array]:
    """Pinball loss, `level (t - y)` for outputs below the target and `(1 - level) (y - t)` above; predicts a quantile.

    The gradient is 0 where the error is 0. Source: Koenker and Bassett 1978, section 3.
    """
    error = _errors(xp, outputs, labels)  # (rows, outputs)
    sign = xp.sign(error)  # (rows, outputs)
    slope = sign / 2 + (0.5 - level) * xp.abs(sign)  # (rows, outputs), 1 - level or -level
    return _of_outputs(xp, outputs, slope * error, slope, batch_size, weights)


def poisson(
    xp: Any, outputs: Array, labels: Array, *, batch_size: float, weights: Array | None = None
) -> tuple[Array, Array, Array]:
    """Half the Poisson deviance, `e^y - t - t (y - log t)` for targets `t >= 0`; `e^y` predicts the mean.

    Source: McCullagh and Nelder 1989, section 2.3.
    """
    y, t = xp.astype(outputs, xp.float64), xp.astype(labels, xp.float64)  # (rows, outputs) each
    mean = xp.exp(y)  # (rows, outputs)
    log_ratio = xp.where(t > 0, y - xp.log(xp.where(t > 0, t, xp.ones_like(t))), xp.zeros_like(y))  # (rows, outputs)
    return _of_outputs(xp, outputs, mean - t - t * log_ratio, mean - t, batch_size, weights)


def _errors(xp: Any, outputs: Array, labels: Array) -> Array:
    """Return outputs minus targets in float64, (rows, outputs)."""
    return xp.astype(outputs, xp.float64) - xp.astype(labels, xp.float64)


def _of_outputs(
    xp: Any, outputs: Array, losses: Array, slopes: Array, batch_size: float, weights: Array | None
) -> tuple[Array, Array, Array]:
    """Return a regression's loss from the losses of all outputs and their derivatives, (rows, outputs) each."""
    loss_sum, grad = _weighted(xp, losses, slopes / batch_size, weights)
    return loss_sum, xp.zeros_like(loss_sum, dtype=xp.int64), xp.astype(grad, outputs.dtype)


def smoothed(
    xp: Any,
    logits: Array,
    labels: Array,
    grad: Array,
    *,
    label_smoothing: float,
    batch_size: float,
    weights: Array | None = None,
) -> tuple[Array, Array]:
    """Return the change of the softmax cross-entropy by label smoothing, and the gradient including it.

    A row's target is `1 - label_smoothing` for its class, and `label_smoothing` shared out evenly among all: of logits
    `z` and class `y` its loss grows by `label_smoothing (z_y - mean(z))`, and the gradient by the derivative of that.
    Logits, labels, batch size and weights are those of `softmax_cross_entropy`; `grad` is the gradient without
    smoothing, (rows, classes), and `label_smoothing` in [0, 1). Source: Szegedy et al. 2016, section 7.
    """
    classes = xp.arange(logits.shape[1], dtype=labels.dtype)  # (classes,)
    one_hot = xp.astype(labels[:, None] == classes[None, :], xp.float64)  # (rows, classes)
    away = label_smoothing * (one_hot - 1 / logits.shape[1])  # (rows, classes)
    more, grad_more = _weighted(xp, away * xp.astype(logits, xp.float64), away / batch_size, weights)
    return more, xp.astype(xp.astype(grad, xp.float64) + grad_more, grad.dtype)


def _weighted(xp: Any, losses: Array, grad: Array, weights: Array | None) -> tuple[Array, Array]:
    """Return the weighted sum of the losses, and the weighted gradient: both are (rows, outputs), of float64."""
    if weights is None:
        return xp.sum(losses), grad
    return xp.sum(losses * weights[:, None]), grad * weights[:, None]


LOSSES: dict[str, Loss] = {
    "softmax_cross_entropy": softmax_cross_entropy,
    "sigmoid_cross_entropy": sigmoid_cross_entropy,
    "squared_error": squared_error,
    "absolute_error": absolute_error,
    "huber": huber,
    "quantile": quantile,
    "poisson": poisson,
}


class LossParameter(NamedTuple):
    """Parameter of a loss.

    Attributes:
        name: keyword of the function.
        default: value if the name of the loss has none.
        constraint: constraint on the value.
    """

    name: str
    default: float
    constraint: Constraint


_OPEN_UNIT = Constraint("a number in (0, 1)", lambda value: is_finite_number(value, least=0) and 0 < float(value) < 1)
LOSS_PARAMETERS: dict[Loss, LossParameter] = {
    huber: LossParameter("delta", 1.0, POSITIVE), quantile: LossParameter("level", 0.5, _OPEN_UNIT),
}  # fmt: skip


def parse_loss(name: str) -> tuple[Loss, float | None]:
    """Return the function of a loss and its parameter, if it has one.

    Args:
        name: a row of `LOSSES`, with the parameter after a colon if not the default: "quantile:0.9".

    Raises:
        ConfigError: there is no such loss, or its parameter is invalid.
    """
    row, colon, text = str(name).partition(":")
    loss = look_up("loss", row, LOSSES)
    parameter = LOSS_PARAMETERS.get(loss)
    if parameter is None:
        if colon:
            raise ConfigError(f"the loss {row} has no parameter, got {name!r}: write {row!r}")
        return loss, None
    try:
        value = float(text) if colon else parameter.default
    except ValueError:
        raise ConfigError(f"the loss {row} takes a number, as in '{row}:{parameter.default}', got {name!r}") from None
    parameter.constraint.check(f"{parameter.name} of the loss {row}", value)
    return loss, value


def row_of_loss(name: str) -> str:
    """Return the row of `LOSSES` of a loss by its name, as in `parse_loss`, without its parameter."""
    return name.partition(":")[0]


def loss_function(name: str) -> Loss:
    """Return the function of a loss by its name, as in `parse_loss`, with its parameter applied."""
    loss, value = parse_loss(name)
    return loss if value is None else _applied(loss, value)


@lru_cache
def _applied(loss: Loss, value: float) -> Loss:
    """Return the loss with its parameter: the same object for the same value, since XLA caches by identity."""
    return partial(loss, **{LOSS_PARAMETERS[loss].name: value})
