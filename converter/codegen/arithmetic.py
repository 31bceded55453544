"""Quantization arithmetic as TFLite's int8 kernels do it, computed ahead of time.

Sources: TFLite's quantization specification; gemmlowp's fixed-point scheme (`doc/quantization.md`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from converter.graph import Activation, Quantization, Tensor

INT8_MIN, INT8_MAX = -128, 127


class Scale(NamedTuple):
    """A real factor as multiplier * 2 ** (shift - 31); multiplier is in [2**30, 2**31) or 0."""

    multiplier: int
    shift: int


class Range(NamedTuple):
    """Zero point of an output and the bounds of its fused activation, in int8 steps."""

    zero_point: int
    low: int
    high: int


def quantize_scale(real: float) -> Scale:
    """The 32-bit fixed-point form of a factor >= 0; factors below 2**-32 become 0."""
    if real == 0:
        return Scale(0, 0)
    mantissa, shift = math.frexp(real)
    multiplier = math.floor(mantissa * 2**31 + 0.5)
    if multiplier == 2**31:
        multiplier, shift = 2**30, shift + 1
    return Scale(0, 0) if shift < -31 else Scale(multiplier, shift)


def rounding_doubling_high_mul(a: int, b: int) -> int:
    """a * b * 2**-31, rounded to nearest, ties upwards."""
    return (a * b + (1 << 30)) >> 31


def rounding_divide_by_power_of_two(x: int, exponent: int) -> int:
    """x * 2**-exponent, rounded to nearest, ties away from zero."""
    if exponent == 0:
        return x
    return (x + (1 << (exponent - 1)) - (x < 0)) >> exponent


def multiply(x: int, scale: Scale) -> int:
    """x * scale with TFLite's two roundings."""
    product = rounding_doubling_high_mul(x << max(scale.shift, 0), scale.multiplier)
    return rounding_divide_by_power_of_two(product, max(-scale.shift, 0))


def quantization(tensor: Tensor) -> Quantization:
    """The quantization of a tensor that is known to have one."""
    assert tensor.quantization is not None
    return tensor.quantization


def output_range(tensor: Tensor, activation: Activation = Activation.NONE) -> Range:
    """Zero point of an int8 tensor and the bounds of the activation fused into its operator."""
    scale, zero_point = np.float32(tensor.scale), tensor.zero_point

    def quantized(real: float) -> int:
        # TFLite divides in float32 and rounds halves away from zero.
        ratio = float(np.float32(real) / scale)
        return zero_point + int(math.copysign(math.floor(abs(ratio) + 0.5), ratio))

    low, high = INT8_MIN, INT8_MAX
    if activation in (Activation.RELU, Activation.RELU6):
        low = max(low, zero_point)
    if activation is Activation.RELU6:
        high = min(high, quantized(6.0))
    if activation is Activation.RELU_N1_TO_1:
        low, high = max(low, quantized(-1.0)), min(high, quantized(1.0))
    return Range(zero_point, low, high)


def channel_scales(data: Tensor, weights: Tensor, output: Tensor, channels: int) -> list[Scale]:
    """Requantization of each output channel of a convolution or matrix product.

    tflite-micro multiplies scales in double precision; LiteRT, for FULLY_CONNECTED quantized per tensor, in
    float32, which differs in about one output of 100,000.
    """
    scales = quantization(weights).scale
    factor, divisor = float(data.scale), float(output.scale)
    per_channel = [factor * float(scale) / divisor for scale in scales]
    if len(per_channel) == 1:
        per_channel *= channels
    return [quantize_scale(real) for real in per_channel]
