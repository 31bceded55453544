from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from codegen.model_builder import ModelBuilder

from converter.folding import without_constant_operators
from converter.tflite_reader import parse_graph


def test_shape_arithmetic_as_keras_leaves_it_is_folded() -> None:
    """SHAPE -> STRIDED_SLICE -> PACK -> RESHAPE, of which only RESHAPE remains."""
    b = ModelBuilder()
    data = b.input([1, 2, 3], 0.1)
    shape = b.with_options("SHAPE", [data], b.tensor([3], "int32"), "ShapeOptions", outType=2)
    ranges = [b.constant([0]), b.constant([1]), b.constant([1])]
    batch = b.with_options(
        "STRIDED_SLICE",
        [shape, *ranges],
        b.tensor([], "int32"),
        "StridedSliceOptions",
        shrinkAxisMask=1,
    )
    parts = [batch, b.constant(6)]
    packed = b.with_options("PACK", parts, b.tensor([2], "int32"), "PackOptions", valuesCount=2, axis=0)
    flat = b.operator("RESHAPE", [data, packed], b.tensor([1, 6], "int8", 0.1))
    graph = parse_graph(b.build(flat), "keras")
    assert [(o.index, o.kind) for o in graph.operators] == [(0, "RESHAPE")]
    values = graph.tensors[packed].data
    assert values is not None
    assert not values.flags.writeable
    np.testing.assert_array_equal(values, [1, 6])


def _folded(b: ModelBuilder, index: int, shape: list[int]) -> npt.NDArray[Any]:
    """What the constant `index` becomes; the graph adds it to its input."""
    data = b.input(shape, 0.1)
    output = b.binary("ADD", data, index, b.tensor(shape, "int8", 0.2))
    graph = parse_graph(b.build(output), "constants")
    assert [o.kind for o in graph.operators] == ["ADD"]
    values = graph.tensors[index].data
    assert values is not None
    return values


def test_moves_of_constants_are_folded_as_numpy_does() -> None:
    values = np.arange(24, dtype=np.int8).reshape(2, 3, 4)
    b = ModelBuilder()
    constant = b.constant(values, "int8", 0.1)
    turned = b.operator("TRANSPOSE", [constant, b.constant([2, 0, 1])], b.tensor([4, 2, 3], "int8", 0.1))
    twice = b.tensor([4, 2, 6], "int8", 0.1)
    b.with_options("CONCATENATION", [turned, turned], twice, "ConcatenationOptions", axis=2)
    part = b.operator(
        "SLICE", [twice, b.constant([1, 0, 2]), b.constant([3, 1, 4])], b.tensor([3, 1, 4], "int8", 0.1)
    )
    squeezed = b.operator("SQUEEZE", [part], b.tensor([3, 4], "int8", 0.1))
    expected = values.transpose(2, 0, 1)
    expected = np.concatenate([expected, expected], axis=2)[1:4, 0, 2:6]
    np.testing.assert_array_equal(_folded(b, squeezed, [3, 4]), expected)


def test_outputs_of_the_graph_stay_computed() -> None:
    b = ModelBuilder()
    constant = b.constant([[1, 2], [3, 4]], "int8", 0.1)
    turned = b.operator("TRANSPOSE", [constant, b.constant([1, 0])], b.tensor([2, 2], "int8", 0.1))
    b.input([1], 0.1)
    graph = parse_graph(b.build(turned), "constant")
    assert [o.kind for o in graph.operators] == ["TRANSPOSE"]
    assert without_constant_operators(graph) == graph
