"""Requantization in a handful of instructions: what firmware/kernels/requantize.h needs and relies on."""

from __future__ import annotations

from typing import NamedTuple

from converter.codegen.arithmetic import INT8_MAX, INT8_MIN, Scale
from converter.codegen.lowering.convolution import Convolution

_MAX_ACCUMULATOR = 1 << 30
_MAX_SHIFT = 22


class FastScale(NamedTuple):
    """Multiplier, addend and right shift of `kernels::FastScale`."""

    multiplier: int
    addend: int
    shift: int


def fast_scales(conv: Convolution) -> list[FastScale] | None:
    """The scales of all channels, or None where the proof in requantize.h does not hold for one of them."""
    low, high = conv.extremes
    found = [
        _fast_scale(scale, max(-int(least), int(most)), conv.bounds.zero_point)
        for scale, least, most in zip(conv.scales, low, high, strict=True)
    ]
    complete = [scale for scale in found if scale is not None]
    return complete if len(complete) == len(found) else None


def _fast_scale(scale: Scale, largest: int, zero_point: int) -> FastScale | None:
    """`largest`: the greatest absolute value of the channel's accumulators."""
    if largest >= _MAX_ACCUMULATOR:
        return None
    shift = -scale.shift
    product = (largest * scale.multiplier >> 31) + 1
    if scale.multiplier == 0 or (shift >= 1 and product < 1 << (shift - 1)):
        # Whatever the accumulator, the result is the zero point.
        return FastScale(0, 1 + zero_point * 2, 1)
    if not 1 <= shift <= _MAX_SHIFT:
        return None
    return FastScale(scale.multiplier, (1 << (shift - 1)) + (zero_point << shift), shift)


def clamping(conv: Convolution) -> str:
    """The `kernels::Clamping` type of the outputs."""
    bounds = conv.bounds
    relu = "true" if bounds.low == bounds.zero_point else "false"
    saturate = "true" if (bounds.low, bounds.high) == (INT8_MIN, INT8_MAX) else "false"
    return f"kernels::Clamping<{relu}, {saturate}, {bounds.low}, {bounds.high}>"
