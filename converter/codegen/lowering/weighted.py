"""CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from converter.codegen.arithmetic import (
    Scale,
    channel_scales,
    fully_connected_scales,
    output_range,
    quantization,
)
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
    require,
    require_activation,
    require_int8,
)
from converter.codegen.lowering.geometry import Window
from converter.graph import ActivationOptions, Conv2DOptions, DepthwiseConv2DOptions, Tensor

MAX_ACCUMULATOR = 2**31 - 1


def _bias(case: Case, channels: int) -> npt.NDArray[np.int64]:
    bias = case.optional_input(2)
    if bias is None or bias.data is None:
        return np.zeros(channels, dtype=np.int64)
    return bias.data.reshape(-1).astype(np.int64)


def _check(case: Case) -> None:
    data, weights, output = case.input(0), case.input(1), case.output
    require_activation(data, output)
    require_int8(data, output)
    require(weights.data is not None, f"has weights '{weights.name}' that are not a constant")
    require(weights.dtype == np.int8, f"has weights of type {weights.dtype}, not int8")
    require(weights.quantization is not None, "has weights without quantization")
    steps = quantization(weights)
    require(not steps.zero_point.any(), "has weights with a zero point other than 0")
    axis = 3 if isinstance(case.options, DepthwiseConv2DOptions) else 0
    per_channel = len(steps.scale) > 1
    require(
        not per_channel or steps.axis == axis, f"has weights quantized along axis {steps.axis}, not {axis}"
    )
    bias = case.optional_input(2)
    if bias is not None:
        require(bias.data is not None, f"has a bias '{bias.name}' that is not a constant")
        require(bias.dtype == np.int32, f"has a bias of type {bias.dtype}, not int32")


def _channels(
    by_channel: npt.NDArray[np.int64], bias: npt.NDArray[np.int64], zero_point: int, scales: list[Scale]
) -> Array:
    """The `kernels::Channel` of each output channel; by_channel: weights [channels, taps]."""
    folded = bias - zero_point * by_channel.sum(axis=1)
    # Accumulators wrap around as in TFLite's kernels, so a folded bias may wrap too.
    wrapped = folded.astype(np.int32)
    rows = [braces(b, cpp_scale(scale)) for b, scale in zip(wrapped, scales, strict=True)]
    return Array("Channels", "kernels::Channel", rows, 12 * len(rows))


def _plain(
    case: Case,
    names: Names,
    *,
    window: Window,
    groups: tuple[int, int, int, int],
    by_channel: npt.NDArray[np.int8],
    scales: list[Scale],
    bias: npt.NDArray[np.int64],
) -> LayerCode:
    assert isinstance(case.options, Conv2DOptions | DepthwiseConv2DOptions | ActivationOptions)
    data = case.input(0)
    channels = len(by_channel)
    wide = by_channel.reshape(channels, -1).astype(np.int64)
    call = (
        f"kernels::conv2d_plain({window.cpp()}, {braces(*groups)}, {data.zero_point}, "
        f"{cpp_range(output_range(case.output, case.options.activation))}, {names.prefix}Weights, "
        f"{names.prefix}Channels, {names.inputs[0]}, {names.output});"
    )
    return LayerCode(
        ("kernels/conv2d_plain.h",),
        (call,),
        (integers("Weights", "int8_t", by_channel), _channels(wide, bias, data.zero_point, scales)),
    )


def _weights(tensor: Tensor) -> npt.NDArray[np.int8]:
    assert tensor.data is not None
    return tensor.data


def _emit_conv_2d(case: Case, names: Names) -> LayerCode:
    assert isinstance(case.options, Conv2DOptions)
    data, weights, output = case.input(0), case.input(1), case.output
    channels, height, width, depth = weights.shape
    window = Window.of(
        data.shape,
        output.shape,
        (height, width),
        strides=case.options.strides,
        dilations=case.options.dilations,
        padding=case.options.padding,
    )
    group_out = channels // (data.shape[3] // depth)
    groups = (data.shape[3], channels, depth, group_out)
    scales = channel_scales(data, weights, output, channels)
    return _plain(
        case,
        names,
        window=window,
        groups=groups,
        by_channel=_weights(weights),
        scales=scales,
        bias=_bias(case, channels),
    )


def _emit_depthwise(case: Case, names: Names) -> LayerCode:
    assert isinstance(case.options, DepthwiseConv2DOptions)
    data, weights, output = case.input(0), case.input(1), case.output
    _, height, width, channels = weights.shape
    window = Window.of(
        data.shape,
        output.shape,
        (height, width),
        strides=case.options.strides,
        dilations=case.options.dilations,
        padding=case.options.padding,
    )
    groups = (data.shape[3], channels, 1, case.options.multiplier)
    by_channel = np.moveaxis(_weights(weights)[0], 2, 0)
    scales = channel_scales(data, weights, output, channels)
    return _plain(
        case,
        names,
        window=window,
        groups=groups,
        by_channel=by_channel,
        scales=scales,
        bias=_bias(case, channels),
    )


def _emit_fully_connected(case: Case, names: Names) -> LayerCode:
    data, weights, output = case.input(0), case.input(1), case.output
    channels, depth = weights.shape
    rows = math.prod(data.shape) // depth
    window = Window.pointwise(rows)
    scales = fully_connected_scales(data, weights, output, channels)
    groups = (depth, channels, depth, channels)
    return _plain(
        case,
        names,
        window=window,
        groups=groups,
        by_channel=_weights(weights),
        scales=scales,
        bias=_bias(case, channels),
    )


CONV_2D = Lowering(_check, _emit_conv_2d)
DEPTHWISE_CONV_2D = Lowering(_check, _emit_depthwise)
FULLY_CONNECTED = Lowering(_check, _emit_fully_connected)
