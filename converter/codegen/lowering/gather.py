"""Convolutions with dilation, groups or batches: see firmware/kernels/conv2d_gather.h."""

from __future__ import annotations

import numpy as np

from converter.codegen.lowering.case import Array, LayerCode, Names
from converter.codegen.lowering.convolution import Convolution, Strategy
from converter.codegen.lowering.fast_scale import fast_convolution
from converter.codegen.lowering.pairs import (
    BLOCK,
    has_fast_pairs,
    is_deep,
    pair_stream,
    round_up,
    widened_order,
)


def _column(conv: Convolution) -> int:
    """Elements of the inputs of an output, rounded up to whole loads."""
    return round_up(conv.window.kernel[0] * conv.window.kernel[1] * conv.depth, 4)


def _scratch(conv: Convolution) -> int:
    return 2 * BLOCK * _column(conv)


def _emit(conv: Convolution, names: Names) -> LayerCode:
    fast = fast_convolution(conv)
    assert fast is not None
    weights = widened_order(fast.conv.weights).reshape(conv.channels, -1)
    weights = np.pad(weights, ((0, 0), (0, _column(conv) - weights.shape[1])))
    groups = [slice(first, first + conv.per_group) for first in range(0, conv.channels, conv.per_group)]
    # Channels of an odd group are paired anew, so any channel may be the second of a pair.
    deep = is_deep(fast.conv) or is_deep(fast.conv, first=0)
    stream = np.concatenate(
        [
            pair_stream(weights[group], fast.conv.folded_bias[group], fast.scales[group], deep=deep)
            for group in groups
        ]
    )
    array = Array("Stream", "uint32_t", [f"0x{word:X}u" for word in stream], 4 * len(stream))
    declaration = f"constexpr kernels::Window {names.prefix}Window = {conv.window.cpp()};"
    kernel = (
        f"kernels::Conv2dGather<{names.prefix}Window, {conv.depth}, {conv.per_group}, {len(groups)}, "
        f"{fast.clamping}, {str(deep).lower()}>"
    )
    scratch = f"reinterpret_cast<int16_t*>({names.scratch})"
    call = (
        f"{kernel}::run({names.prefix}Stream, {conv.zero_point}, {scratch}, {names.inputs[0]}, "
        f"{names.output});"
    )
    return LayerCode(("kernels/conv2d_gather.h",), (call,), (array,), (declaration,))


GATHER = Strategy(has_fast_pairs, _scratch, lambda _: False, _emit)
