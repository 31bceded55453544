"""Removal of channels that cannot matter: those whose value is the same for every input.

Training switches channels off (MLPerf Tiny's visual wake words model has layers of which nine tenths are
constant). Interval analysis finds them, their constants move into the biases of the layers that read them,
and nothing is computed for them any more. The outputs of the graph stay the same, bit for bit.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from converter.codegen.arithmetic import quantization
from converter.codegen.intervals import Interval, graph_intervals
from converter.codegen.lowering.case import Case
from converter.codegen.lowering.convolution import convolution
from converter.graph import Graph, Operator, Tensor

# Kept channels are a multiple of what a 32-bit word holds.
_MULTIPLE = 4
_DENSE = ("CONV_2D", "FULLY_CONNECTED")

Mask = npt.NDArray[np.bool_]


def without_dead_channels(graph: Graph) -> Graph:
    """The graph with constant channels removed; indices of operators and activations stay the same."""
    intervals = graph_intervals(graph)
    groups = _groups(graph)
    kept = {}
    for members in groups.values():
        removable = _removable(graph, members, intervals)
        if removable is not None and removable.any():
            kept.update(dict.fromkeys(members, _rounded(~removable)))
    return _Rewriter(graph, intervals, kept).run()


def _channels(tensor: Tensor) -> int:
    return tensor.shape[-1]


def _passes_channels(graph: Graph, operator: Operator) -> bool:
    """Whether output channel c depends on input channel c alone, and both can be left out."""
    data, output = graph.tensors[operator.inputs[0]], graph.tensors[operator.outputs[0]]
    kinds = ("DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D", "MAX_POOL_2D", "RESHAPE")
    if operator.kind not in kinds or data.is_constant or not data.shape or not output.shape:
        return False
    return _channels(data) == _channels(output)


def _groups(graph: Graph) -> dict[int, list[int]]:
    """Activations between which channels pass unmixed, by the first of them."""
    root: dict[int, int] = {}
    for operator in graph.operators:
        output = operator.outputs[0]
        passes = _passes_channels(graph, operator)
        root[output] = root.get(operator.inputs[0], operator.inputs[0]) if passes else output
    groups: dict[int, list[int]] = defaultdict(list)
    for tensor, first in root.items():
        groups[first].append(tensor)
    return {first: sorted({first, *members}) for first, members in groups.items()}


def _removable(graph: Graph, members: list[int], intervals: dict[int, Interval]) -> Mask | None:
    """Which channels of a group nothing needs; None where the group cannot be changed."""
    inside = set(members)
    removable: Mask | None = None
    for operator in graph.operators:
        written = inside.intersection(operator.outputs)
        if written and not (_is_dense(graph, operator) or _passes_channels(graph, operator)):
            return None
        read = inside.intersection(operator.inputs)
        if not read or written:
            continue
        if not _is_dense(graph, operator) or len(read) != 1 or operator.inputs[0] not in read:
            return None
        absorbed = _absorbed(graph, operator, intervals)
        removable = absorbed if removable is None else removable & absorbed
    outside = inside.intersection(graph.inputs) or inside.intersection(graph.outputs)
    return None if outside else removable


def _is_dense(graph: Graph, operator: Operator) -> bool:
    """Whether every output channel reads every input channel, and the weights say which."""
    if operator.kind not in _DENSE:
        return False
    data, weights = (graph.tensors[i] for i in operator.inputs[:2])
    return bool(data.shape) and _channels(data) == weights.shape[-1]


def _absorbed(graph: Graph, operator: Operator, intervals: dict[int, Interval]) -> Mask:
    """Channels of the input of a dense operator that a change of its biases can replace."""
    case = Case(graph, operator)
    interval = intervals[operator.inputs[0]]
    constant: Mask = interval.low == interval.high
    if convolution(case).window.is_padded:
        constant &= interval.low == case.input(0).zero_point
    return constant


def _rounded(kept: Mask) -> Mask:
    """Keeps as many more channels as make the number a multiple."""
    missing = -int(kept.sum()) % _MULTIPLE or (_MULTIPLE if not kept.any() else 0)
    kept = kept.copy()
    kept[np.flatnonzero(~kept)[:missing]] = True
    return kept


class _Rewriter:
    """Builds the graph that has only the kept channels of some activations."""

    def __init__(self, graph: Graph, intervals: dict[int, Interval], kept: dict[int, Mask]) -> None:
        self._graph, self._intervals, self._kept = graph, intervals, kept
        self._tensors = list(graph.tensors)
        for index, mask in kept.items():
            tensor = graph.tensors[index]
            self._tensors[index] = replace(tensor, shape=(*tensor.shape[:-1], int(mask.sum())))

    def run(self) -> Graph:
        operators = tuple(self._operator(operator) for operator in self._graph.operators)
        return replace(self._graph, tensors=tuple(self._tensors), operators=operators)

    def _operator(self, operator: Operator) -> Operator:
        kept_in = self._kept.get(operator.inputs[0])
        kept_out = self._kept.get(operator.outputs[0])
        weighted = operator.kind in (*_DENSE, "DEPTHWISE_CONV_2D")
        if not weighted or (kept_in is None and kept_out is None):
            return operator
        weights = self._graph.tensors[operator.inputs[1]]
        bias = Case(self._graph, operator).optional_input(2)
        assert weights.data is not None
        channel_axis = 3 if operator.kind == "DEPTHWISE_CONV_2D" else 0
        values = np.zeros(weights.shape[channel_axis], np.int64)
        if bias is not None and bias.data is not None:
            values += bias.data
        if kept_in is not None and operator.kind in _DENSE:
            values += self._constant_part(operator, weights.data, ~kept_in)
            weights = _selected(weights, kept_in, len(weights.shape) - 1)
        if kept_out is not None:
            weights = _selected(weights, kept_out, channel_axis)
            values = values[kept_out]
        # Accumulators wrap around as in TFLite's kernels, and so may biases.
        new_bias = self._add(
            Tensor(
                0, f"{operator.name} bias", values.shape, np.dtype(np.int32), None, values.astype(np.int32)
            )
        )
        return replace(operator, inputs=(operator.inputs[0], self._add(weights), new_bias))

    def _constant_part(
        self, operator: Operator, weights: npt.NDArray[Any], removed: Mask
    ) -> npt.NDArray[np.int64]:
        """What the removed input channels add to each output channel."""
        data = self._graph.tensors[operator.inputs[0]]
        offsets = (self._intervals[data.index].low - data.zero_point) * removed
        part: npt.NDArray[np.int64] = (
            (weights.astype(np.int64) @ offsets).reshape(len(weights), -1).sum(axis=1)
        )
        return part

    def _add(self, tensor: Tensor) -> int:
        self._tensors.append(replace(tensor, index=len(self._tensors)))
        return len(self._tensors) - 1


def _selected(tensor: Tensor, kept: Mask, axis: int) -> Tensor:
    """A constant with only the kept indices along `axis`."""
    assert tensor.data is not None
    data = np.compress(kept, tensor.data, axis=axis)
    steps = quantization(tensor)
    if len(steps.scale) > 1 and steps.axis == axis:
        steps = replace(steps, scale=steps.scale[kept], zero_point=steps.zero_point[kept])
    return replace(tensor, shape=data.shape, data=data, quantization=steps)
