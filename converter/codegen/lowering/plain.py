"""The strategy that computes every convolution."""

from __future__ import annotations

import numpy as np

from converter.codegen.lowering.case import Array, LayerCode, Names, braces, cpp_range, cpp_scale, integers
from converter.codegen.lowering.convolution import Convolution, Strategy


def _emit(conv: Convolution, names: Names) -> LayerCode:
    groups = braces(conv.channels_in, conv.channels, conv.depth, conv.per_group)
    call = (
        f"kernels::conv2d_plain({conv.window.cpp()}, {groups}, {conv.zero_point}, {cpp_range(conv.bounds)}, "
        f"{names.prefix}Weights, {names.prefix}Channels, {names.inputs[0]}, {names.output});"
    )
    # Accumulators wrap around as in TFLite's kernels, so a folded bias may wrap too.
    biases = conv.folded_bias.astype(np.int32)
    rows = [braces(bias, cpp_scale(scale)) for bias, scale in zip(biases, conv.scales, strict=True)]
    return LayerCode(
        ("kernels/conv2d_plain.h",),
        (call,),
        (
            integers("Weights", "int8_t", conv.weights.astype(np.int8)),
            Array("Channels", "kernels::Channel", rows, 12 * len(rows)),
        ),
    )


PLAIN = Strategy(lambda _: True, lambda _: 0, lambda _: False, _emit)
