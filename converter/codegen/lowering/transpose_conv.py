"""TRANSPOSE_CONV: see firmware/kernels/transpose_conv.h."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from converter.codegen.arithmetic import channel_scales, output_range
from converter.codegen.lowering.case import (
    Array,
    Case,
    LayerCode,
    Lowering,
    Names,
    braces,
    cpp_range,
    cpp_scale,
    integers,
    require_activation,
    require_int8,
    require_weights,
)
from converter.codegen.lowering.geometry import Window
from converter.graph import Tensor, TransposeConvOptions


def _check(case: Case) -> None:
    data, output = case.input(2), case.output
    require_activation(data, output)
    require_int8(data, output)
    require_weights(case.input(1), case.optional_input(3), 0)


def _constant(tensor: Tensor) -> npt.NDArray[np.int64]:
    assert tensor.data is not None
    return tensor.data.astype(np.int64)


def _emit(case: Case, names: Names) -> LayerCode:
    assert isinstance(case.options, TransposeConvOptions)
    options, data, output = case.options, case.input(2), case.output
    weights, bias = _constant(case.input(1)), case.optional_input(3)
    channels, height, width, depth = weights.shape
    window = Window.of(
        output.shape, data.shape, (height, width), strides=options.strides, padding=options.padding
    )
    scales = channel_scales(data, case.input(1), output, channels)
    biases = np.zeros(channels, np.int64) if bias is None else _constant(bias)
    rows = [braces(bias, cpp_scale(scale)) for bias, scale in zip(biases, scales, strict=True)]
    shape = braces(window.cpp(), depth, channels, cpp_range(output_range(output, options.activation)))
    prefix = names.prefix
    return LayerCode(
        ("kernels/transpose_conv.h",),
        (
            f"kernels::transpose_conv<{prefix}Shape>({prefix}Weights, {prefix}Offsets, {prefix}Channels, "
            f"{names.inputs[2]}, {names.output});",
        ),
        (
            integers("Weights", "int8_t", weights.astype(np.int8)),
            integers("Offsets", "int32_t", (-data.zero_point * weights.sum(axis=3)).astype(np.int32)),
            Array("Channels", "kernels::Channel", rows, 12 * channels),
        ),
        (f"constexpr kernels::TransposeConv {prefix}Shape = {shape};",),
    )


TRANSPOSE_CONV = Lowering(_check, _emit)
