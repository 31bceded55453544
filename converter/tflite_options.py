"""Reads the options of operators: the part of the reader that knows what each kind of operator has.

Source: TFLite schema 3 (`tensorflow/lite/schema/schema.fbs`), through the `tflite` package.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tflite

from common.errors import ModelError
from converter.graph import (
    Activation,
    ActivationOptions,
    AxisOptions,
    BlockOptions,
    Conv2DOptions,
    DepthwiseConv2DOptions,
    LeakyReluOptions,
    MeanOptions,
    NoOptions,
    Options,
    Padding,
    PoolOptions,
    ResizeOptions,
    SoftmaxOptions,
    StridedSliceOptions,
    TransposeConvOptions,
)

_ACTIVATIONS = {
    tflite.ActivationFunctionType.NONE: Activation.NONE,
    tflite.ActivationFunctionType.RELU: Activation.RELU,
    tflite.ActivationFunctionType.RELU_N1_TO_1: Activation.RELU_N1_TO_1,
    tflite.ActivationFunctionType.RELU6: Activation.RELU6,
}
_PADDINGS = {tflite.Padding.SAME: Padding.SAME, tflite.Padding.VALID: Padding.VALID}


def read_options(raw: Any, kind: str, what: str) -> Options:
    """Options of the operator `raw` of a kind; `what` names the layer in errors.

    Raises:
        ModelError: the options are absent, of another kind, or hold something unsupported.
    """
    reader = _OPTION_READERS.get(kind)
    if reader is None:
        return NoOptions()
    table_class, default, read = reader
    table = raw.BuiltinOptions()
    if table is None:
        if default is None:
            raise ModelError(f"{what} has no options")
        return default
    if raw.BuiltinOptionsType() != getattr(tflite.BuiltinOptions, table_class.__name__):
        raise ModelError(f"{what} has the options of another operator")
    options = table_class()
    options.Init(table.Bytes, table.Pos)
    return read(options, what)


def _choice(table: dict[int, Any], value: int, what: str, meaning: str) -> Any:
    if value not in table:
        raise ModelError(f"{what} has an unsupported {meaning} ({value})")
    return table[value]


def _pair(height: int, width: int, what: str, meaning: str) -> tuple[int, int]:
    if not (0 < height <= 0xFFFF and 0 < width <= 0xFFFF):
        raise ModelError(f"{what} has {meaning} {height}x{width}")
    return height, width


def _activation(raw: Any, what: str) -> Activation:
    found: Activation = _choice(_ACTIVATIONS, raw.FusedActivationFunction(), what, "fused activation")
    return found


def _conv_geometry(raw: Any, what: str) -> dict[str, Any]:
    return {
        "padding": _choice(_PADDINGS, raw.Padding(), what, "padding"),
        "strides": _pair(raw.StrideH(), raw.StrideW(), what, "strides"),
        "dilations": _pair(raw.DilationHFactor(), raw.DilationWFactor(), what, "dilations"),
        "activation": _activation(raw, what),
    }


def _conv_2d(raw: Any, what: str) -> Conv2DOptions:
    return Conv2DOptions(**_conv_geometry(raw, what))


def _depthwise_conv_2d(raw: Any, what: str) -> DepthwiseConv2DOptions:
    multiplier, _ = _pair(raw.DepthMultiplier(), 1, what, "depth multiplier")
    return DepthwiseConv2DOptions(multiplier=multiplier, **_conv_geometry(raw, what))


def _pool(raw: Any, what: str) -> PoolOptions:
    return PoolOptions(
        padding=_choice(_PADDINGS, raw.Padding(), what, "padding"),
        strides=_pair(raw.StrideH(), raw.StrideW(), what, "strides"),
        window=_pair(raw.FilterHeight(), raw.FilterWidth(), what, "window"),
        activation=_activation(raw, what),
    )


def _fully_connected(raw: Any, what: str) -> ActivationOptions:
    if raw.WeightsFormat() != tflite.FullyConnectedOptionsWeightsFormat.DEFAULT:
        raise ModelError(f"{what} has shuffled weights, which are not supported")
    return ActivationOptions(_activation(raw, what))


def _arithmetic(raw: Any, what: str) -> ActivationOptions:
    return ActivationOptions(_activation(raw, what))


def _reducer(raw: Any, what: str) -> MeanOptions:  # noqa: ARG001 (one signature for all readers)
    return MeanOptions(bool(raw.KeepDims()))


def _softmax(raw: Any, what: str) -> SoftmaxOptions:
    beta = float(raw.Beta())
    if not (math.isfinite(beta) and beta > 0):
        raise ModelError(f"{what} has beta {beta}")
    return SoftmaxOptions(beta)


def _transpose_conv(raw: Any, what: str) -> TransposeConvOptions:
    return TransposeConvOptions(
        padding=_choice(_PADDINGS, raw.Padding(), what, "padding"),
        strides=_pair(raw.StrideH(), raw.StrideW(), what, "strides"),
        activation=_activation(raw, what),
    )


def _axis(raw: Any, what: str) -> AxisOptions:  # noqa: ARG001 (one signature for all readers)
    return AxisOptions(int(raw.Axis()))


def _concatenation(raw: Any, what: str) -> AxisOptions:
    if _activation(raw, what) is not Activation.NONE:
        raise ModelError(f"{what} has a fused activation, which is not supported")
    return AxisOptions(int(raw.Axis()))


def _strided_slice(raw: Any, what: str) -> StridedSliceOptions:
    if raw.EllipsisMask() or raw.NewAxisMask() or raw.Offset():
        raise ModelError(f"{what} has an ellipsis, a new axis or ends as offsets, which are not supported")
    return StridedSliceOptions(int(raw.BeginMask()), int(raw.EndMask()), int(raw.ShrinkAxisMask()))


def _resize(raw: Any, what: str) -> ResizeOptions:
    if raw.AlignCorners() and raw.HalfPixelCenters():
        raise ModelError(f"{what} has both aligned corners and half pixel centers")
    return ResizeOptions(bool(raw.AlignCorners()), bool(raw.HalfPixelCenters()))


def _block(raw: Any, what: str) -> BlockOptions:
    size, _ = _pair(raw.BlockSize(), 1, what, "a block size of")
    return BlockOptions(size)


def _leaky_relu(raw: Any, what: str) -> LeakyReluOptions:
    alpha = float(raw.Alpha())
    if not math.isfinite(alpha):
        raise ModelError(f"{what} has alpha {alpha}")
    return LeakyReluOptions(alpha)


# Kind -> class of the options' table, what holds where the file has none (None: an error), reader.
_OPTION_READERS: dict[str, tuple[Any, Options | None, Callable[[Any, str], Options]]] = {
    "CONV_2D": (tflite.Conv2DOptions, None, _conv_2d),
    "DEPTHWISE_CONV_2D": (tflite.DepthwiseConv2DOptions, None, _depthwise_conv_2d),
    "AVERAGE_POOL_2D": (tflite.Pool2DOptions, None, _pool),
    "MAX_POOL_2D": (tflite.Pool2DOptions, None, _pool),
    "FULLY_CONNECTED": (tflite.FullyConnectedOptions, ActivationOptions(), _fully_connected),
    "ADD": (tflite.AddOptions, ActivationOptions(), _arithmetic),
    "SUB": (tflite.SubOptions, ActivationOptions(), _arithmetic),
    "MUL": (tflite.MulOptions, ActivationOptions(), _arithmetic),
    "MEAN": (tflite.ReducerOptions, MeanOptions(), _reducer),
    "SUM": (tflite.ReducerOptions, MeanOptions(), _reducer),
    "REDUCE_MAX": (tflite.ReducerOptions, MeanOptions(), _reducer),
    "REDUCE_MIN": (tflite.ReducerOptions, MeanOptions(), _reducer),
    "SOFTMAX": (tflite.SoftmaxOptions, None, _softmax),
    "TRANSPOSE_CONV": (tflite.TransposeConvOptions, None, _transpose_conv),
    "CONCATENATION": (tflite.ConcatenationOptions, None, _concatenation),
    "PACK": (tflite.PackOptions, None, _axis),
    "UNPACK": (tflite.UnpackOptions, None, _axis),
    "STRIDED_SLICE": (tflite.StridedSliceOptions, StridedSliceOptions(), _strided_slice),
    "RESIZE_NEAREST_NEIGHBOR": (tflite.ResizeNearestNeighborOptions, ResizeOptions(), _resize),
    "RESIZE_BILINEAR": (tflite.ResizeBilinearOptions, ResizeOptions(), _resize),
    "SPACE_TO_DEPTH": (tflite.SpaceToDepthOptions, None, _block),
    "DEPTH_TO_SPACE": (tflite.DepthToSpaceOptions, None, _block),
    "LEAKY_RELU": (tflite.LeakyReluOptions, None, _leaky_relu),
}
