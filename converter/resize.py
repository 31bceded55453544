"""The same graph at another input resolution, shapes only: what a smaller input would need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from common.errors import ModelError
from converter.graph import Graph, Operator, PoolOptions, Tensor
from converter.shapes import output_shapes

# Operators that work at any resolution with the same constants.
_RESOLUTION_FREE = {
    *("CONV_2D", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D", "MAX_POOL_2D", "MEAN", "PAD", "ADD", "SUB", "MUL"),
    *("RELU", "RELU6", "RELU_N1_TO_1", "LEAKY_RELU", "LOGISTIC", "TANH", "HARD_SWISH", "PRELU"),
    *("MAXIMUM", "MINIMUM", "SUM", "REDUCE_MAX", "REDUCE_MIN", "ARG_MAX", "ARG_MIN"),
    *("CONCATENATION", "SPLIT", "SPLIT_V", "TRANSPOSE", "SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "PADV2"),
    *("RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR", "QUANTIZE", "DEQUANTIZE"),
}
STEP = 8


def resized(graph: Graph, height: int, width: int) -> Graph | None:
    """`graph` for inputs of height x width pixels; None where its architecture depends on the resolution.

    Only graphs with one [N, H, W, C] input can be resized. A pool over its whole input stays one, and what is
    enlarged by a whole factor is enlarged by that factor.
    """
    source = graph.tensors[graph.inputs[0]]
    if len(graph.inputs) != 1 or len(source.shape) != 4:
        return None
    tensors = list(graph.tensors)
    tensors[source.index] = replace(source, shape=(source.shape[0], height, width, source.shape[3]))
    operators = []
    for original in graph.operators:
        operator = original
        if any(tensors[i].shape != graph.tensors[i].shape for i in original.inputs if i >= 0):
            if original.kind not in _RESOLUTION_FREE:
                return None
            operator = _with_global_pool(original, graph.tensors, tensors)
            operator = _with_same_factor(operator, graph.tensors, tensors)
            try:
                shapes = output_shapes(tensors, operator)
            except ModelError:
                return None
            if any(size < 1 for shape in shapes for size in shape):
                return None
            for output, shape in zip(operator.outputs, shapes, strict=True):
                tensors[output] = replace(tensors[output], shape=shape)
        operators.append(operator)
    return replace(graph, tensors=tuple(tensors), operators=tuple(operators))


def largest_input(graph: Graph, fits: Callable[[Graph], bool]) -> tuple[int, int] | None:
    """A smaller input (height, width) at which `fits` says yes, None if there is none.

    The aspect ratio is kept. The height is a multiple of 8, and the largest such if `fits` is monotonic.
    """
    shape = graph.tensors[graph.inputs[0]].shape
    if len(shape) != 4:
        return None
    height, width = shape[1:3]
    best = None
    low, high = 1, (height - 1) // STEP
    while low <= high:
        middle = (low + high) // 2
        size = middle * STEP, max(1, round(width * middle * STEP / height))
        smaller = resized(graph, *size)
        if smaller is not None and fits(smaller):
            best, low = size, middle + 1
        else:
            high = middle - 1
    return best


def _with_global_pool(operator: Operator, old: Sequence[Tensor], new: Sequence[Tensor]) -> Operator:
    options = operator.options
    source = operator.inputs[0]
    if isinstance(options, PoolOptions) and options.window == old[source].shape[1:3]:
        _, height, width, _ = new[source].shape
        return replace(operator, options=replace(options, window=(height, width)))
    return operator


def _with_same_factor(operator: Operator, old: Sequence[Tensor], new: list[Tensor]) -> Operator:
    """RESIZE_* to the same multiple of its new input; adds the constant that says so to `new`."""
    if not operator.kind.startswith("RESIZE_"):
        return operator
    source, size = operator.inputs
    before, after = (np.array(tensors[source].shape[1:3]) for tensors in (old, new))
    target = np.array(old[operator.outputs[0]].shape[1:3])
    if (target % before).any():
        return operator
    scaled = (after * (target // before)).astype(np.int32)
    new.append(replace(old[size], index=len(new), data=scaled))
    return replace(operator, inputs=(source, len(new) - 1))
