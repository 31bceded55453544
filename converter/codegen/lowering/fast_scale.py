"""Requantization in a handful of instructions: what firmware/kernels/requantize.h needs and relies on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from converter.codegen.arithmetic import INT8_MAX, INT8_MIN, Range, Scale
from converter.codegen.intervals import requantized_bounds
from converter.codegen.lowering.convolution import Convolution

_MAX_ACCUMULATOR = 1 << 30
_MAX_SHIFT = 22
_MAX_PRESCALE = 7  # Doubled weights are then still int16.


class FastScale(NamedTuple):
    """Multiplier, addend and right shift of `kernels::FastScale`."""

    multiplier: int
    addend: int
    shift: int


@dataclass(frozen=True)
class FastConvolution:
    """A convolution whose accumulators are proven small enough for fast requantization.

    conv: the convolution; channels whose output never changes have weights and bias 0; scales: one a channel.
    """

    conv: Convolution
    scales: tuple[FastScale, ...]


def fast_convolution(conv: Convolution, *, prescale: bool = False) -> FastConvolution | None:
    """The convolution with fast scales, or None where the proof in requantize.h fails for a channel.

    With `prescale`, weights and bias of a channel may be multiplied by up to 2^7: TFLite shifts the
    accumulators of a channel whose scale is 1 or more to the left, which their weights can do as well.
    """
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
        fast = fast_scale(scale, largest, conv.bounds.zero_point)
        if fast is None and prescale:
            fast = _unshifted(scale, largest, conv.bounds)
            weights[channel] <<= max(scale.shift, 0)
            bias[channel] <<= max(scale.shift, 0)
        if fast is None:
            return None
        scales.append(fast)
    return FastConvolution(replace(conv, weights=weights, bias=bias), tuple(scales))


def fast_scale(scale: Scale, largest: int, zero_point: int) -> FastScale | None:
    """The fast form of `scale` for accumulators of at most `largest`, or None where the proof fails."""
    shift = -scale.shift
    if largest >= _MAX_ACCUMULATOR or not 1 <= shift <= _MAX_SHIFT:
        return None
    return FastScale(scale.multiplier, (1 << (shift - 1)) + (zero_point << shift), shift)


def _unshifted(scale: Scale, largest: int, bounds: Range) -> FastScale | None:
    """The fast form of a scale of at least 1/2, whose accumulators carry its shift to the left already."""
    if not 0 <= scale.shift <= _MAX_PRESCALE or largest << scale.shift >= _MAX_ACCUMULATOR:
        return None
    return FastScale(scale.multiplier, bounds.zero_point, 0) if bounds.low == bounds.zero_point else None


def clamping(bounds: Range) -> str:
    """The `kernels::Clamping` type of outputs."""
    relu = "true" if bounds.low == bounds.zero_point else "false"
    saturate = "true" if (bounds.low, bounds.high) == (INT8_MIN, INT8_MAX) else "false"
    return f"kernels::Clamping<{relu}, {saturate}, {bounds.low}, {bounds.high}>"
