from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from codegen.model_builder import ModelBuilder
from hypothesis import given, settings
from hypothesis import strategies as st
from tflite_files import edited

from common.errors import ModelError
from converter.resize import resized
from converter.tflite_reader import parse_graph


def _head() -> bytes:
    """[1, 8, 8, 4] -> split -> resize and back by blocks -> concatenate -> transpose -> slices."""
    b = ModelBuilder()

    def tensor(*shape: int) -> int:
        return b.tensor(shape, "int8", 0.1, 3)

    data = b.input([1, 8, 8, 4], 0.1, 3)
    left, right = tensor(1, 8, 8, 2), tensor(1, 8, 8, 2)
    b.with_options("SPLIT", [b.constant(3), data], [left, right], "SplitOptions", numSplits=2)
    up = b.with_options(
        "RESIZE_NEAREST_NEIGHBOR",
        [left, b.constant([16, 16])],
        tensor(1, 16, 16, 2),
        "ResizeNearestNeighborOptions",
    )
    blocks = b.with_options("SPACE_TO_DEPTH", [up], tensor(1, 8, 8, 8), "SpaceToDepthOptions", blockSize=2)
    joined = b.with_options(
        "CONCATENATION", [blocks, right], tensor(1, 8, 8, 10), "ConcatenationOptions", axis=-1
    )
    turned = b.operator("TRANSPOSE", [joined, b.constant([0, 3, 1, 2])], tensor(1, 10, 8, 8))
    ranges = [b.constant(v) for v in ([0, 1, 0, 0], [1, 9, 8, 8], [1, 2, 1, 1])]
    return b.build(
        b.with_options("STRIDED_SLICE", [turned, *ranges], tensor(1, 4, 8, 8), "StridedSliceOptions")
    )


HEAD = _head()


def _constant(name: bytes, values: list[int]) -> Callable[[Any], None]:
    """Replaces the int32 values of the constant `name`."""

    def edit(model: Any) -> None:
        tensor = next(t for t in model.subgraphs[0].tensors if t.name == name)
        raw = b"".join(value.to_bytes(4, "little", signed=True) for value in values)
        model.buffers[tensor.buffer].data = list(raw)

    return edit


def _option(index: int, field: str, value: int) -> Callable[[Any], None]:
    return lambda model: setattr(model.subgraphs[0].operators[index].builtinOptions, field, value)


def _operator(index: int, field: str, value: list[int]) -> Callable[[Any], None]:
    return lambda model: setattr(model.subgraphs[0].operators[index], field, value)


# Constants: t3 axis, t4 size, t8 order, t10 to t12 begins, ends and strides.
CONTRADICTIONS = {
    "axis of split": (_constant(b"t3", [4]), "SPLIT .* axis 4 on 4 dimensions"),
    "parts of split": (_constant(b"t3", [0]), "splits 1 into 2 parts"),
    "halves": (_constant(b"t3", [1]), r"declares output shape \[1, 8, 8, 2\], but gives \[1, 4, 8, 4\]"),
    "size": (_constant(b"t4", [16, 8]), r"RESIZE_NEAREST_NEIGHBOR .* gives \[1, 16, 8, 2\]"),
    "block": (_option(2, "blockSize", 3), "16x16 pixels for blocks of 3x3"),
    "no block": (_option(2, "blockSize", 0), "block size of 0x1"),
    "axis of concatenation": (_option(3, "axis", -5), "CONCATENATION .* axis -5"),
    "another axis": (_option(3, "axis", 1), r"joins .* along axis 1"),
    "activation": (_option(3, "fusedActivationFunction", 1), "has a fused activation"),
    "no permutation": (_constant(b"t8", [0, 3, 3, 2]), r"permutation \[0, 3, 3, 2\] of 4 dimensions"),
    "no stride": (_constant(b"t12", [1, 0, 1, 1]), "STRIDED_SLICE .* begins, ends and strides"),
    "empty slice": (_constant(b"t11", [1, 1, 8, 8]), r"but gives \[1, 0, 8, 8\]"),
    "ellipsis": (_option(5, "ellipsisMask", 1), "an ellipsis"),
    "shrunk": (_option(5, "shrinkAxisMask", 1), r"gives \[4, 8, 8\]"),
    "one output of a split": (_operator(0, "outputs", [1]), "SPLIT|before anything writes"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_contradicting_moves_are_named(name: str) -> None:
    edit, message = CONTRADICTIONS[name]
    with pytest.raises(ModelError, match=message) as caught:
        parse_graph(edited(HEAD, edit), "broken")
    assert "\n" not in str(caught.value)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(HEAD) - 1), st.one_of(st.integers(0, 255), st.sampled_from([0, 127, 255]))
        ),
        min_size=1,
        max_size=12,
    )
)
def test_changed_bytes_of_moves_give_a_graph_or_a_model_error(changes: list[tuple[int, int]]) -> None:
    data = bytearray(HEAD)
    for position, value in changes:
        data[position] = value
    try:
        graph = parse_graph(bytes(data), "m")
    except ModelError:
        return
    for operator in graph.operators:
        assert all(-1 <= i < len(graph.tensors) for i in operator.inputs + operator.outputs)


def test_a_head_at_another_resolution_keeps_its_factors() -> None:
    graph = parse_graph(HEAD, "head")
    # Slices hold constants of one resolution: without the last operator.
    body = type(graph)(
        *(graph.name, graph.sha256, graph.tensors, graph.operators[:-1], graph.inputs),
        graph.operators[-2].outputs,
    )
    smaller = resized(body, 4, 6)
    assert smaller is not None
    assert [smaller.tensors[i].shape for o in smaller.operators for i in o.outputs] == [
        *((1, 4, 6, 2), (1, 4, 6, 2), (1, 8, 12, 2), (1, 4, 6, 8), (1, 4, 6, 10), (1, 10, 4, 6))
    ]
    assert resized(graph, 4, 6) is None
