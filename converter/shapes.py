"""Checks that the operators of a graph agree with the shapes of their tensors.

What is generated from a graph indexes memory by these shapes, so a file that contradicts itself must not
pass. Shape rules: TFLite's operator definitions (`tensorflow/lite/kernels`). Kinds that are not listed here
are not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.errors import ModelError
from converter.graph import (
    Conv2DOptions,
    DepthwiseConv2DOptions,
    Graph,
    MeanOptions,
    Operator,
    Options,
    Padding,
    PoolOptions,
    Tensor,
)

Shape = tuple[int, ...]
Window = Conv2DOptions | DepthwiseConv2DOptions | PoolOptions


class _MismatchError(Exception):
    """What is wrong with an operator; the caller adds which one."""


@dataclass(frozen=True)
class _Case:
    """An operator with its required inputs, its bias if it has one, and its only output."""

    options: Options
    inputs: tuple[Tensor, ...]
    bias: Tensor | None
    output: Tensor


def check_shapes(graph: Graph) -> None:
    """Check every operator of a known kind.

    Raises:
        ModelError: names the first operator whose tensors contradict each other.
    """
    for operator in graph.operators:
        if operator.kind not in _RULES:
            continue
        expected = output_shape(graph.tensors, operator)
        declared = graph.tensors[operator.outputs[0]].shape
        if expected != declared:
            raise ModelError(
                f"{operator.kind} '{operator.name}' declares output shape {list(declared)}, "
                f"but gives {list(expected)}"
            )


def output_shape(tensors: Sequence[Tensor], operator: Operator) -> Shape:
    """Shape of the only output of an operator of a known kind, by its inputs and options.

    RESHAPE and FULLY_CONNECTED, which choose between shapes of the same size, keep the declared one if it is
    possible.

    Raises:
        ModelError: the inputs do not fit together.
    """
    fewest, most, rule = _RULES[operator.kind]
    try:
        return rule(_case(tensors, operator, fewest, most))
    except _MismatchError as error:
        raise ModelError(f"{operator.kind} '{operator.name}' {error}") from None


def convolved(size: int, kernel: int, stride: int, dilation: int, padding: Padding) -> int:
    """Output size of a convolution or pool along one axis; less than 1 where the window does not fit."""
    if padding is Padding.SAME:
        return -(-size // stride)
    return -(-(size - (kernel - 1) * dilation) // stride)


def _case(tensors: Sequence[Tensor], operator: Operator, fewest: int, most: int) -> _Case:
    if not fewest <= len(operator.inputs) <= most or len(operator.outputs) != 1:
        counts = f"{len(operator.inputs)} inputs and {len(operator.outputs)} outputs"
        raise _MismatchError(f"has {counts}")
    if -1 in operator.inputs[:fewest]:
        raise _MismatchError("lacks a required input")
    required = tuple(tensors[i] for i in operator.inputs[:fewest])
    has_bias = len(operator.inputs) > 2 and operator.inputs[2] >= 0
    bias = tensors[operator.inputs[2]] if has_bias else None
    return _Case(operator.options, required, bias, tensors[operator.outputs[0]])


def _slide(shape: Shape, kernel: Shape, options: Window, channels: int) -> Shape:
    """Output shape of a window sliding over [N, H, W, C]."""
    dilations = (1, 1) if isinstance(options, PoolOptions) else options.dilations
    height, width = (
        convolved(shape[1 + i], kernel[i], options.strides[i], dilations[i], options.padding)
        for i in range(2)
    )
    return shape[0], height, width, channels


def _of_rank(tensor: Tensor, rank: int) -> Shape:
    if len(tensor.shape) != rank:
        raise _MismatchError(f"has tensor '{tensor.name}' of rank {len(tensor.shape)} instead of {rank}")
    return tensor.shape


def _check_bias(bias: Tensor | None, channels: int) -> None:
    if bias is not None and bias.shape != (channels,):
        raise _MismatchError(f"has a bias of shape {list(bias.shape)} for {channels} channels")


def _conv_2d(case: _Case) -> Shape:
    assert isinstance(case.options, Conv2DOptions)
    shape = _of_rank(case.inputs[0], 4)
    channels, height, width, depth = _of_rank(case.inputs[1], 4)
    groups, rest = divmod(shape[3], depth)
    if rest or channels % groups:
        raise _MismatchError(f"has weights {list(case.inputs[1].shape)} for {shape[3]} input channels")
    _check_bias(case.bias, channels)
    return _slide(shape, (height, width), case.options, channels)


def _depthwise_conv_2d(case: _Case) -> Shape:
    assert isinstance(case.options, DepthwiseConv2DOptions)
    shape = _of_rank(case.inputs[0], 4)
    one, height, width, channels = _of_rank(case.inputs[1], 4)
    if one != 1 or channels != shape[3] * case.options.multiplier:
        expected = f"{shape[3]} input channels with multiplier {case.options.multiplier}"
        raise _MismatchError(f"has weights {list(case.inputs[1].shape)} for {expected}")
    _check_bias(case.bias, channels)
    return _slide(shape, (height, width), case.options, channels)


def _pool(case: _Case) -> Shape:
    assert isinstance(case.options, PoolOptions)
    shape = _of_rank(case.inputs[0], 4)
    return _slide(shape, case.options.window, case.options, shape[3])


def _fully_connected(case: _Case) -> Shape:
    data, output = case.inputs[0], case.output
    channels, depth = _of_rank(case.inputs[1], 2)
    if data.elements % depth:
        raise _MismatchError(f"has weights {[channels, depth]} for {data.elements} inputs")
    _check_bias(case.bias, channels)
    rows = data.elements // depth
    # The leading dimensions may be kept or flattened.
    keeps = output.shape[-1:] == (channels,) and output.elements == rows * channels
    return output.shape if keeps else (rows, channels)


def _broadcast(case: _Case) -> Shape:
    left, right = (tensor.shape for tensor in case.inputs)
    try:
        return np.broadcast_shapes(left, right)
    except ValueError:
        raise _MismatchError(f"has inputs {list(left)} and {list(right)}, which do not broadcast") from None


def _elementwise(case: _Case) -> Shape:
    return case.inputs[0].shape


def _reshape(case: _Case) -> Shape:
    data, output = case.inputs[0], case.output
    return output.shape if (output.elements, output.dtype) == (data.elements, data.dtype) else data.shape


def _integers(tensor: Tensor, what: str) -> npt.NDArray[np.int64]:
    if tensor.data is None or tensor.dtype.kind != "i" or tensor.elements > 64:
        raise _MismatchError(f"has {what} that are not a few integer constants")
    return tensor.data.astype(np.int64)


def _reduce(case: _Case) -> Shape:
    assert isinstance(case.options, MeanOptions)
    shape = case.inputs[0].shape
    given = [int(axis) for axis in _integers(case.inputs[1], "axes").reshape(-1)]
    if any(not -len(shape) <= axis < len(shape) for axis in given):
        raise _MismatchError(f"has axes {given} on {len(shape)} dimensions")
    axes = {axis % len(shape) for axis in given}
    if case.options.keep_dims:
        return tuple(1 if i in axes else size for i, size in enumerate(shape))
    return tuple(size for i, size in enumerate(shape) if i not in axes)


def _pad(case: _Case) -> Shape:
    shape, margins = case.inputs[0].shape, _integers(case.inputs[1], "paddings")
    if margins.shape != (len(shape), 2) or (margins < 0).any():
        raise _MismatchError(f"has paddings {margins.tolist()} for {len(shape)} dimensions")
    return tuple(size + int(sum(margin)) for size, margin in zip(shape, margins, strict=True))


_Rule = tuple[int, int, Callable[[_Case], Shape]]
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
    "MEAN": (2, 2, _reduce),
    "SUM": (2, 2, _reduce),
    "PAD": (2, 2, _pad),
    "RESHAPE": (1, 2, _reshape),
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
