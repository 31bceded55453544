"""Checks that the operators of a graph agree with the shapes of their tensors.

What is generated from a graph indexes memory by these shapes, so a file that contradicts itself must not
pass. Shape rules: TFLite's operator definitions (`tensorflow/lite/kernels`). Kinds that are not listed here
are not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from common.errors import ModelError
from converter.graph import (
    Conv2DOptions,
    DepthwiseConv2DOptions,
    Graph,
    MeanOptions,
    Operator,
    Padding,
    PoolOptions,
    Tensor,
    TransposeConvOptions,
)
from converter.movement import MOVEMENTS, movement
from converter.shape_case import MismatchError, Shape, ShapeCase, axis_of, integer_list, of_rank

Window = Conv2DOptions | DepthwiseConv2DOptions | PoolOptions


def check_shapes(graph: Graph) -> None:
    """Check every operator of a known kind.

    Raises:
        ModelError: names the first operator whose tensors contradict each other.
    """
    for operator in graph.operators:
        if operator.kind not in KINDS:
            continue
        expected = output_shapes(graph.tensors, operator)
        for index, shape in zip(operator.outputs, expected, strict=True):
            declared = graph.tensors[index].shape
            if shape != declared:
                raise ModelError(
                    f"{operator.kind} '{operator.name}' declares output shape {list(declared)}, "
                    f"but gives {list(shape)}"
                )


def output_shapes(tensors: Sequence[Tensor], operator: Operator) -> tuple[Shape, ...]:
    """Shapes of the outputs of an operator of a known kind, by its inputs and options.

    RESHAPE, SQUEEZE, EXPAND_DIMS and FULLY_CONNECTED, which choose between shapes of the same size, keep the
    declared one if it is possible.

    Raises:
        ModelError: the inputs do not fit together.
    """
    try:
        case = shape_case(tensors, operator)
        if operator.kind in MOVEMENTS:
            return movement(case).shapes
        fewest, most, rule = _RULES[operator.kind]
        if not fewest <= len(case.given) <= most or len(case.outputs) != 1:
            raise MismatchError(f"has {len(case.given)} inputs and {len(case.outputs)} outputs")
        for position in range(fewest):
            case.input(position)
        return (rule(case),)
    except MismatchError as error:
        raise ModelError(f"{operator.kind} '{operator.name}' {error}") from None


def shape_case(tensors: Sequence[Tensor], operator: Operator) -> ShapeCase:
    """What the shape rules see of an operator."""
    given = tuple(tensors[i] if i >= 0 else None for i in operator.inputs)
    return ShapeCase(operator.kind, operator.options, given, tuple(tensors[i] for i in operator.outputs))


def convolved(size: int, kernel: int, stride: int, dilation: int, padding: Padding) -> int:
    """Output size of a convolution or pool along one axis; less than 1 where the window does not fit."""
    if padding is Padding.SAME:
        return -(-size // stride)
    return -(-(size - (kernel - 1) * dilation) // stride)


def _slide(shape: Shape, kernel: Shape, options: Window, channels: int) -> Shape:
    """Output shape of a window sliding over [N, H, W, C]."""
    dilations = (1, 1) if isinstance(options, PoolOptions) else options.dilations
    height, width = (
        convolved(shape[1 + i], kernel[i], options.strides[i], dilations[i], options.padding)
        for i in range(2)
    )
    return shape[0], height, width, channels


def _check_bias(bias: Tensor | None, channels: int) -> None:
    if bias is not None and bias.shape != (channels,):
        raise MismatchError(f"has a bias of shape {list(bias.shape)} for {channels} channels")


def _conv_2d(case: ShapeCase) -> Shape:
    assert isinstance(case.options, Conv2DOptions)
    shape = of_rank(case.input(0), 4)
    channels, height, width, depth = of_rank(case.input(1), 4)
    groups, rest = divmod(shape[3], depth)
    if rest or channels % groups:
        raise MismatchError(f"has weights {list(case.input(1).shape)} for {shape[3]} input channels")
    _check_bias(case.optional_input(2), channels)
    return _slide(shape, (height, width), case.options, channels)


def _depthwise_conv_2d(case: ShapeCase) -> Shape:
    assert isinstance(case.options, DepthwiseConv2DOptions)
    shape = of_rank(case.input(0), 4)
    one, height, width, channels = of_rank(case.input(1), 4)
    if one != 1 or channels != shape[3] * case.options.multiplier:
        expected = f"{shape[3]} input channels with multiplier {case.options.multiplier}"
        raise MismatchError(f"has weights {list(case.input(1).shape)} for {expected}")
    _check_bias(case.optional_input(2), channels)
    return _slide(shape, (height, width), case.options, channels)


def _pool(case: ShapeCase) -> Shape:
    assert isinstance(case.options, PoolOptions)
    shape = of_rank(case.input(0), 4)
    return _slide(shape, case.options.window, case.options, shape[3])


def _fully_connected(case: ShapeCase) -> Shape:
    data, output = case.input(0), case.output
    channels, depth = of_rank(case.input(1), 2)
    if data.elements % depth:
        raise MismatchError(f"has weights {[channels, depth]} for {data.elements} inputs")
    _check_bias(case.optional_input(2), channels)
    rows = data.elements // depth
    # The leading dimensions may be kept or flattened.
    keeps = output.shape[-1:] == (channels,) and output.elements == rows * channels
    return output.shape if keeps else (rows, channels)


def _transpose_conv(case: ShapeCase) -> Shape:
    assert isinstance(case.options, TransposeConvOptions)
    options, data = case.options, of_rank(case.input(2), 4)
    channels, height, width, depth = of_rank(case.input(1), 4)
    shape = tuple(integer_list(case.input(0), "an output shape"))
    if depth != data[3] or len(shape) != 4 or (shape[0], shape[3]) != (data[0], channels):
        raise MismatchError(f"makes {list(shape)} of {list(data)} with weights {[channels, depth]}")
    _check_bias(case.optional_input(3), channels)
    back = [
        convolved(shape[1 + i], (height, width)[i], options.strides[i], 1, options.padding) for i in range(2)
    ]
    if back != list(data[1:3]):
        raise MismatchError(f"makes {list(shape)} of {list(data)}, which would come from {back}")
    return shape


def _resize(case: ShapeCase) -> Shape:
    batches, _, _, channels = of_rank(case.input(0), 4)
    size = integer_list(case.input(1), "a size")
    if len(size) != 2:
        raise MismatchError(f"has size {size} instead of height and width")
    return batches, size[0], size[1], channels


def _broadcast(case: ShapeCase) -> Shape:
    left, right = (tensor.shape for tensor in case.inputs)
    try:
        return np.broadcast_shapes(left, right)
    except ValueError:
        raise MismatchError(f"has inputs {list(left)} and {list(right)}, which do not broadcast") from None


def _prelu(case: ShapeCase) -> Shape:
    if _broadcast(case) != case.input(0).shape:
        raise MismatchError(f"has slopes {list(case.input(1).shape)} for {list(case.input(0).shape)}")
    return case.input(0).shape


def _elementwise(case: ShapeCase) -> Shape:
    return case.input(0).shape


def _reshape(case: ShapeCase) -> Shape:
    data, output = case.input(0), case.output
    return output.shape if (output.elements, output.dtype) == (data.elements, data.dtype) else data.shape


def _without_units(shape: Shape) -> list[int]:
    return [size for size in shape if size > 1]


def _change_units(case: ShapeCase) -> Shape:
    shape, declared = case.input(0).shape, case.output.shape
    return declared if _without_units(declared) == _without_units(shape) else shape


def _shape(case: ShapeCase) -> Shape:
    if case.output.dtype not in (np.int32, np.int64):
        raise MismatchError(f"has an output of type {case.output.dtype}")
    return (len(case.input(0).shape),)


def _arg(case: ShapeCase) -> Shape:
    axes, shape = integer_list(case.input(1), "an axis"), case.input(0).shape
    if len(axes) != 1:
        raise MismatchError(f"has axes {axes}")
    axis = axis_of(axes[0], len(shape))
    return (*shape[:axis], *shape[axis + 1 :])


def _reduce(case: ShapeCase) -> Shape:
    assert isinstance(case.options, MeanOptions)
    shape = case.input(0).shape
    axes = {axis_of(axis, len(shape)) for axis in integer_list(case.input(1), "axes")}
    if case.options.keep_dims:
        return tuple(1 if i in axes else size for i, size in enumerate(shape))
    return tuple(size for i, size in enumerate(shape) if i not in axes)


_Rule = tuple[int, int, Callable[[ShapeCase], Shape]]
_ELEMENTWISE: _Rule = (1, 1, _elementwise)
_BROADCAST: _Rule = (2, 2, _broadcast)

# Kind -> fewest and most inputs, rule that gives the output's shape.
_RULES: dict[str, _Rule] = {
    "CONV_2D": (2, 3, _conv_2d),
    "DEPTHWISE_CONV_2D": (2, 3, _depthwise_conv_2d),
    "FULLY_CONNECTED": (2, 3, _fully_connected),
    "AVERAGE_POOL_2D": (1, 1, _pool),
    "MAX_POOL_2D": (1, 1, _pool),
    "ADD": _BROADCAST,
    "SUB": _BROADCAST,
    "MUL": _BROADCAST,
    "MAXIMUM": _BROADCAST,
    "MINIMUM": _BROADCAST,
    "PRELU": (2, 2, _prelu),
    "TRANSPOSE_CONV": (3, 4, _transpose_conv),
    "RESIZE_NEAREST_NEIGHBOR": (2, 2, _resize),
    "RESIZE_BILINEAR": (2, 2, _resize),
    "MEAN": (2, 2, _reduce),
    "SUM": (2, 2, _reduce),
    "REDUCE_MAX": (2, 2, _reduce),
    "REDUCE_MIN": (2, 2, _reduce),
    "ARG_MAX": (2, 2, _arg),
    "ARG_MIN": (2, 2, _arg),
    "RESHAPE": (1, 2, _reshape),
    "SQUEEZE": (1, 1, _change_units),
    "EXPAND_DIMS": (2, 2, _change_units),
    "SHAPE": (1, 1, _shape),
    "SOFTMAX": _ELEMENTWISE,
    "QUANTIZE": _ELEMENTWISE,
    "DEQUANTIZE": _ELEMENTWISE,
    "RELU": _ELEMENTWISE,
    "RELU6": _ELEMENTWISE,
    "RELU_N1_TO_1": _ELEMENTWISE,
    "LEAKY_RELU": _ELEMENTWISE,
    "LOGISTIC": _ELEMENTWISE,
    "TANH": _ELEMENTWISE,
    "HARD_SWISH": _ELEMENTWISE,
}
KINDS = frozenset(_RULES) | frozenset(MOVEMENTS)
# Their output is their input.
ALIASES = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
