"""Post-training quantization to 8-bit integers.

A feature or activation is a code in [0, 255] that stands for `low + step * code`; a weight is an integer in [-127, 127]
with a scale for each unit. A layer's sum of products is an int32, and a fixed-point multiplier makes it a code of the
next layer. Ranges are those of calibration rows, and biases make up for the mean error there.

Source: Jacob et al. 2018, "Quantization and training of neural networks for efficient integer-arithmetic-only
inference", section 2; Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction",
section 4.2, for the biases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...backends.activations import ACTIVATIONS, LEAKY_SLOPE

Floats = npt.NDArray[np.float64]

CODE, WEIGHT = 255, 127  # largest code, largest weight
BIAS = 2**23  # largest bias, in units of the sums, before the correction of at most CODE / 2 a weight
# So no sum leaves int32: (WEIGHT * CODE + CODE / 2) * MOST_FEATURES + BIAS < 2**31.
MOST_FEATURES = 2**16
LEAKY_DIVISOR = round(1 / LEAKY_SLOPE)
TABULATED = ("tanh", "sigmoid")  # activations that are looked up by the code of the sum


@dataclass(frozen=True)
class Codes:
    """Numbers of codes, `low + step * code`.

    Attributes:
        low: number of code 0, (features,).
        step: difference of neighbours, (features,); 0 for a constant.
    """

    low: Floats
    step: Floats

    @property
    def factor(self) -> Floats:
        """Codes per unit, (features,): 1 / step, or 0 for a constant."""
        return np.divide(1, self.step, out=np.zeros_like(self.step), where=self.step > 0)

    def encode(self, numbers: npt.NDArray[np.float32]) -> Floats:
        """Return the codes of numbers, (samples, features), with the float32 arithmetic of the C source."""
        low, factor = self.low.astype(np.float32), self.factor.astype(np.float32)  # (features,) each
        return np.clip(np.floor((numbers - low) * factor + np.float32(0.5)), 0, CODE).astype(np.float64)


@dataclass(frozen=True)
class QuantizedLayer:
    """Dense layer of integers.

    Attributes:
        weight: (out_features, in_features), int8.
        bias: (out_features,), int32.
        scale: number of a sum of 1, (out_features,).
        multiplier: see `rescale`, (out_features,), int32.
        shift: likewise, (out_features,), uint8.
        zero: code of the number 0.
        table: code of the activation by that of the sum, (256,), uint8; None if both are the same.
    """

    weight: npt.NDArray[np.int8]
    bias: npt.NDArray[np.int32]
    scale: Floats
    multiplier: npt.NDArray[np.int32]
    shift: npt.NDArray[np.uint8]
    zero: int = 0
    table: npt.NDArray[np.uint8] | None = None


def quantize(
    parameters: Sequence[tuple[Floats, Floats]], activation: str, features: Floats, codes: Floats, meaning: Codes
) -> list[QuantizedLayer]:
    """Quantize the layers of a network.

    Args:
        parameters: weight (in_features, out_features) and bias (out_features,) of each layer.
        activation: activation of the hidden layers.
        features: calibration rows, (samples, features).
        codes: their codes, (samples, features).
        meaning: numbers of these codes.
    """
    made = []
    for k, (weight, bias) in enumerate(parameters):
        sums = features @ weight + bias  # (samples, out_features)
        layer = _dense(weight, sums.mean(axis=0), codes, meaning)
        whole = codes @ layer.weight.T.astype(np.float64) + layer.bias  # (samples, out_features), exact
        if k < len(parameters) - 1:
            layer, meaning = _activated(layer, activation, whole * layer.scale)
            slope = LEAKY_DIVISOR if activation == "leaky_relu" else 1
            hidden = rescale(whole.astype(np.int64), layer.multiplier, layer.shift, zero=layer.zero, divisor=slope)
            codes = (hidden if layer.table is None else layer.table[hidden]).astype(np.float64)
            features = ACTIVATIONS[activation].forward(np, sums)
        made.append(layer)
    return made


def fixed_point(factors: Floats) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """Return multipliers in [2**30, 2**31) and shifts in [1, 62] with `factor = multiplier / 2**shift`.

    Factors below 2**-32 become 0, since all of their products round to 0, and factors above 2**29 become 2**29, since
    all of their products but 0 are beyond the codes.
    """
    mantissa, exponent = np.frexp(np.clip(factors, 2.0**-32, 2.0**29))
    multiplier = np.rint(mantissa * 2**31).astype(np.int64)
    is_over = multiplier == 2**31
    multiplier[is_over] //= 2
    multiplier[factors < 2.0**-32] = 0
    return multiplier.astype(np.int32), (31 - (exponent + is_over)).astype(np.uint8)


def rescale(
    sums: npt.NDArray[np.int64],
    multiplier: npt.NDArray[np.int32],
    shift: npt.NDArray[np.uint8],
    *,
    zero: int,
    divisor: int = 1,
) -> npt.NDArray[np.int64]:
    """Return the codes of sums, (samples, units): `zero + sum * multiplier / 2**shift`, halves away from zero.

    Negative sums are divided by `divisor` more.
    """
    size = np.abs(sums) * multiplier.astype(np.int64)  # (samples, units)
    size = np.where(sums < 0, size // divisor, size)
    places = shift.astype(np.int64)  # (units,)
    rounded = (size + (np.int64(1) << (places - 1))) >> places  # (samples, units)
    return np.clip(np.where(sums < 0, -rounded, rounded) + zero, 0, CODE)


def codes_of(values: Floats) -> Codes:
    """Return the codes of calibration rows, (samples, features), from the least number to the largest of each."""
    low, high = values.min(axis=0), values.max(axis=0)  # (features,) each
    step = (high - low) / CODE  # (features,)
    return Codes(low, np.where(step > np.finfo(np.float32).tiny, step, 0.0))


def _dense(weight: Floats, means: Floats, codes: Floats, meaning: Codes) -> QuantizedLayer:
    """Return the integer weights, and the biases with which the sums have these means, (out_features,)."""
    scaled = weight.T * meaning.step  # (out_features, in_features), per code
    mean_code = codes.mean(axis=0)  # (in_features,)
    largest = np.maximum(np.abs(scaled).max(axis=1) / WEIGHT, np.abs(means - scaled @ mean_code) / BIAS)
    scale = np.where(largest > 0, largest, 1.0)  # (out_features,)
    whole = np.rint(scaled / scale[:, None])  # (out_features, in_features)
    bias = np.rint(means / scale - whole @ mean_code)  # (out_features,)
    unused = np.zeros(len(bias))
    return QuantizedLayer(
        whole.astype(np.int8), bias.astype(np.int32), scale, unused.astype(np.int32), unused.astype(np.uint8)
    )


def _activated(layer: QuantizedLayer, activation: str, sums: Floats) -> tuple[QuantizedLayer, Codes]:
    """Return a hidden layer with the codes of its activations, and their meaning.

    Args:
        layer: the layer.
        activation: its activation.
        sums: its sums as numbers, (samples, out_features).
    """
    apply = ACTIVATIONS[activation].forward
    is_tabulated = activation in TABULATED
    values = sums if is_tabulated else apply(np, sums)  # (samples, out_features)
    least, most = min(values.min(), 0.0), max(values.max(), 0.0)
    step = float(most - least) / CODE or 1.0
    zero = round(-float(least) / step)
    multiplier, shift = fixed_point(layer.scale / step)
    table = None
    if is_tabulated:
        numbers = apply(np, step * (np.arange(CODE + 1.0) - zero))  # (256,)
        low, step = numbers[:1], float(numbers[-1] - numbers[0]) / CODE or 1.0
        table = np.clip(np.rint((numbers - low) / step), 0, CODE).astype(np.uint8)
    else:
        low = np.array([-zero * step])
    made = QuantizedLayer(layer.weight, layer.bias, layer.scale, multiplier, shift, zero, table)
    return made, Codes(np.full(len(layer.bias), low[0]), np.full(len(layer.bias), step))
