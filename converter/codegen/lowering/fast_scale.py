"""Requantization in a handful of instructions: what firmware/kernels/requantize.h needs and relies on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from converter.codegen.arithmetic import INT8_MAX, INT8_MIN, Range, Scale
from converter.codegen.intervals import requantized_bounds
from converter.codegen.lowering.convolution import Convolution

_MAX_ACCUMULATOR = 1 << 30
_MAX_RIGHT = 22
_MAX_LEFT = 7  # Doubled weights shifted so far are still int16.


class FastScale(NamedTuple):
    """Multiplier, addend, right and left shift of `kernels::FastScale`."""

    multiplier: int
    addend: int
    right: int
    left: int = 0

    @property
    def words(self) -> tuple[int, int, int]:
        """The words of a stream that hold it."""
        return self.multiplier, self.addend, self.right | self.left << 8


@dataclass(frozen=True)
class FastConvolution:
    """A convolution whose accumulators are proven small enough for fast requantization.

    conv: the convolution; channels whose output never changes have weights and bias 0; scales: one a channel.
    """

    conv: Convolution
    scales: tuple[FastScale, ...]

    @property
    def clamping(self) -> str:
        """The `kernels::Clamping` type of its outputs."""
        unrounded = any(scale.right == 0 for scale in self.scales) and not _is_relu(self.conv.bounds)
        return clamping(self.conv.bounds, mixed=unrounded or any(scale.left for scale in self.scales))

    def with_shifted_weights(self) -> FastConvolution:
        """The same without left shifts: weights and biases carry them."""
        left = np.array([scale.left for scale in self.scales])
        weights, bias = self.conv.weights << left[:, None, None, None], self.conv.bias << left
        scales = tuple(scale._replace(left=0) for scale in self.scales)
        return FastConvolution(replace(self.conv, weights=weights, bias=bias), scales)


def fast_convolution(conv: Convolution) -> FastConvolution | None:
    """The convolution with fast scales, or None where the proof in requantize.h fails for a channel."""
    low, high = conv.extremes
    weights, bias = conv.weights.copy(), conv.bias.copy()
    scales = []
    for channel, scale in enumerate(conv.scales):
        least, most = int(low[channel]), int(high[channel])
        first, last = requantized_bounds(scale, least, most, conv.bounds)
        if first == last:
            weights[channel], bias[channel] = 0, 0
            scales.append(FastScale(0, 2 * first + 1, 1))
            continue
        largest = max(-least, most)
        zero_point = conv.bounds.zero_point
        fast = fast_scale(scale, largest, zero_point) or _unrounded(scale, largest, zero_point)
        if fast is None:
            return None
        scales.append(fast)
    return FastConvolution(replace(conv, weights=weights, bias=bias), tuple(scales))


def fast_scale(scale: Scale, largest: int, zero_point: int) -> FastScale | None:
    """The fast form of `scale` for accumulators of at most `largest`, or None where the proof fails."""
    right = -scale.shift
    if largest >= _MAX_ACCUMULATOR or not 1 <= right <= _MAX_RIGHT:
        return None
    return FastScale(scale.multiplier, (1 << (right - 1)) + (zero_point << right), right)


def _unrounded(scale: Scale, largest: int, zero_point: int) -> FastScale | None:
    """The fast form of a scale of at least 1/2, which TFLite rounds once and may shift to the left before."""
    if not 0 <= scale.shift <= _MAX_LEFT or largest << scale.shift >= _MAX_ACCUMULATOR:
        return None
    return FastScale(scale.multiplier, zero_point, 0, scale.shift)


def _is_relu(bounds: Range) -> bool:
    return bounds.low == bounds.zero_point


def clamping(bounds: Range, *, mixed: bool = False) -> str:
    """The `kernels::Clamping` type of outputs."""
    saturate = (bounds.low, bounds.high) == (INT8_MIN, INT8_MAX)
    flags = (str(flag).lower() for flag in (_is_relu(bounds), saturate, mixed))
    return f"kernels::Clamping<{', '.join(flags)}, {bounds.low}, {bounds.high}>"
