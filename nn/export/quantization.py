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
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends.activations import ACTIVATIONS, LEAKY_SLOPE

Floats = npt.NDArray[np.float64]

CODE, WEIGHT = 255, 127  # largest code, largest weight
BIAS = 2**23  # largest bias, in units of the sums, before the correction of at most CODE / 2 a weight
# So no sum leaves int32: (WEIGHT * CODE + CODE / 2) * MOST_FEATURES + BIAS < 2**31.
MOST_FEATURES = 2**16
LEAKY_DIVISOR = round(1 / LEAKY_SLOPE)
UNTABULATED = ("identity", "relu", "leaky_relu")  # the others are looked up by the code of the sum


@dataclass(frozen=True)
class Codes:
    """Codes of features, and the numbers that they stand for, `low + step * code`.

    Attributes:
        low: number of code 0, (features,).
        step: difference of neighbours, (features,); 0 for a constant.
    """

    low: Floats
    step: Floats

    @property
    def factor(self) -> Floats:
        """Codes per unit, (features,): 1 / step, or 0 for a constant."""
        factor: Floats = np.divide(1, self.step, out=np.zeros_like(self.step), where=self.step > 0)
        return factor

    def encode(self, numbers: Floats) -> Floats:
        """Return the codes of numbers, (samples, features), which are clipped to the ends."""
        codes: Floats = np.clip(np.floor((numbers - self.low) * self.factor + 0.5), 0, CODE)
        return codes


@dataclass(frozen=True)
class Rescaling:
    """Codes of a hidden layer's activations, by its sums.

    Attributes:
        multiplier: with `shift`, codes per unit of a sum, `multiplier / 2**shift`, (units,), int32.
        shift: (units,), uint8.
        zero: code of the number 0.
        divisor: what a negative sum is divided by more; 1 for all activations but leaky_relu.
        table: code of an activation by that of its sum, (256,), uint8; None if both are the same.
    """

    multiplier: npt.NDArray[np.int32]
    shift: npt.NDArray[np.uint8]
    zero: int = 0
    divisor: int = 1
    table: npt.NDArray[np.uint8] | None = None

    def apply(self, sums: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the codes, (samples, units), of sums, (samples, units); halves are rounded away from zero."""
        size = np.abs(sums) * self.multiplier.astype(np.int64)  # (samples, units)
        size = np.where(sums < 0, size // self.divisor, size)
        shift = self.shift.astype(np.int64)  # (units,)
        rounded = (size + (np.int64(1) << (shift - 1))) >> shift  # (samples, units)
        codes: npt.NDArray[np.int64] = np.clip(self.zero + np.where(sums < 0, -rounded, rounded), 0, CODE)
        return codes if self.table is None else self.table[codes].astype(np.int64)


@dataclass(frozen=True)
class QuantizedLayer:
    """Dense layer of integers.

    Attributes:
        weight: (out_features, in_features), int8.
        bias: (out_features,), int32.
        scale: number that a sum of 1 stands for, (out_features,).
        rescaling: codes of the activations; None in the last layer.
    """

    weight: npt.NDArray[np.int8]
    bias: npt.NDArray[np.int32]
    scale: Floats
    rescaling: Rescaling | None = None

    def sums(self, codes: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return the sums, (samples, out_features), of codes, (samples, in_features)."""
        products = codes.astype(np.float64) @ self.weight.T.astype(np.float64)  # exact, and faster than in integers
        return products.astype(np.int64) + self.bias


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
        exact = features @ weight + bias  # (samples, out_features)
        layer = _dense(weight, exact.mean(axis=0), codes, meaning)
        if k < len(parameters) - 1:
            sums = layer.sums(codes)  # (samples, out_features)
            rescaling, meaning = _rescaling(activation, layer.scale, sums * layer.scale)
            layer = replace(layer, rescaling=rescaling)
            codes = rescaling.apply(sums).astype(np.float64)  # (samples, out_features)
            features = ACTIVATIONS[activation].forward(np, exact)
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
    scale = np.where(largest > np.finfo(np.float64).tiny, largest, 1.0)  # (out_features,)
    whole = np.rint(scaled / scale[:, None])  # (out_features, in_features)
    bias = np.rint(means / scale - whole @ mean_code)  # (out_features,)
    return QuantizedLayer(whole.astype(np.int8), bias.astype(np.int32), scale)


def _rescaling(activation: str, scale: Floats, sums: Floats) -> tuple[Rescaling, Codes]:
    """Return the codes of a hidden layer's activations.

    Args:
        activation: its activation.
        scale: number that a sum of 1 stands for, (units,).
        sums: its sums on the calibration rows, as numbers, (samples, units).
    """
    forward, is_tabulated = ACTIVATIONS[activation].forward, activation not in UNTABULATED
    coded = sums if is_tabulated else forward(np, sums)  # (samples, units)
    least = min(float(coded.min()), 0.0)  # 0 has a code
    step = (max(float(coded.max()), 0.0) - least) / CODE or 1.0
    zero = round(-least / step)
    divisor = LEAKY_DIVISOR if activation == "leaky_relu" else 1
    made = Rescaling(*fixed_point(scale / step), zero, divisor)
    numbers = step * (np.arange(CODE + 1.0) - zero)  # (256,), of the codes
    if is_tabulated:
        numbers = forward(np, numbers)
        low, step = float(numbers.min()), float(np.ptp(numbers)) / CODE or 1.0
        made = replace(made, table=np.clip(np.rint((numbers - low) / step), 0, CODE).astype(np.uint8))
    units = np.ones(len(scale))  # (units,)
    return made, Codes(numbers.min() * units, step * units)
