"""Interval analysis: the least and greatest int8 value that each channel of an activation can take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from converter.codegen.arithmetic import INT8_MAX, INT8_MIN, Range, Scale, multiply
from converter.codegen.lowering.case import Case
from converter.codegen.lowering.convolution import Convolution, convolution
from converter.graph import Graph, PoolOptions, Tensor

_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_INT32 = range(-(1 << 31), 1 << 31)


@dataclass(frozen=True)
class Interval:
    """Bounds of the values of each channel, both reached or not; int64 [channels]."""

    low: npt.NDArray[np.int64]
    high: npt.NDArray[np.int64]


def graph_intervals(graph: Graph) -> dict[int, Interval]:
    """Bounds of every activation of a supported graph."""
    found = {index: _anything(graph.tensors[index]) for index in graph.inputs}
    for operator in graph.operators:
        case = Case(graph, operator)
        data = found.get(operator.inputs[0], _anything(case.input(0)))
        found.update((index, _anything(graph.tensors[index])) for index in operator.outputs[1:])
        found[operator.outputs[0]] = _output(case, data)
    return found


def _anything(tensor: Tensor) -> Interval:
    channels = tensor.shape[-1] if tensor.shape else 1
    return Interval(np.full(channels, INT8_MIN), np.full(channels, INT8_MAX))


def _output(case: Case, data: Interval) -> Interval:
    channels = case.output.shape[-1] if case.output.shape else 1
    kind = case.operator.kind
    if kind in _WEIGHTED:
        conv = convolution(case)
        return _convolved(conv, data if len(data.low) == conv.channels_in else _of(conv.channels_in))
    keeps_values = kind in ("RESHAPE", "AVERAGE_POOL_2D", "MAX_POOL_2D")
    if keeps_values and len(data.low) == channels and _is_unclamped(case):
        return data
    return _of(channels)


def _of(channels: int) -> Interval:
    return Interval(np.full(channels, INT8_MIN), np.full(channels, INT8_MAX))


def _is_unclamped(case: Case) -> bool:
    return not isinstance(case.options, PoolOptions) or case.options.activation.value == "none"


def _convolved(conv: Convolution, data: Interval) -> Interval:
    low, high = data.low, data.high
    if conv.window.is_padded:
        low, high = np.minimum(low, conv.zero_point), np.maximum(high, conv.zero_point)
    # Input channels that each output channel reads: [channels, depth].
    read = (np.arange(conv.channels) // conv.per_group * conv.depth)[:, None] + np.arange(conv.depth)
    shape = (conv.channels, 1, 1, conv.depth)
    ends = [conv.weights * (bound[read].reshape(shape) - conv.zero_point) for bound in (low, high)]
    least = np.minimum(*ends).sum(axis=(1, 2, 3)) + conv.bias
    most = np.maximum(*ends).sum(axis=(1, 2, 3)) + conv.bias
    bounds = [
        requantized_bounds(scale, int(a), int(b), conv.bounds)
        for scale, a, b in zip(conv.scales, least, most, strict=True)
    ]
    return Interval(*np.array(bounds, dtype=np.int64).T)


def requantized_bounds(scale: Scale, least: int, most: int, bounds: Range) -> tuple[int, int]:
    """Bounds of the outputs of a channel whose accumulators lie in [least, most].

    Requantization is monotonous; where it may wrap around, nothing but the activation's bounds is known.
    """
    if least not in _INT32 or most not in _INT32 or scale.shift > 0:
        return bounds.low, bounds.high
    low, high = (
        min(max(multiply(end, scale) + bounds.zero_point, bounds.low), bounds.high) for end in (least, most)
    )
    return low, high
