from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from model_builder import ModelBuilder

from common.errors import ModelError
from converter.board import FIRMWARE_DIR
from converter.codegen import LOWERINGS, check_ends, check_support, engine_needs, generate
from converter.codegen.support import MAX_INPUTS
from converter.graph import Graph
from converter.memory import plan_memory
from converter.tflite_reader import parse_graph


def _graph(builder: ModelBuilder, *outputs: int) -> Graph:
    return parse_graph(builder.build(*outputs), "small")


def test_unknown_operator_is_named_with_its_layer_and_the_supported_ones(tmp_path: Path) -> None:
    builder = ModelBuilder()
    data = builder.input([1, 4], 0.1)
    relu = builder.unary("RELU", data, builder.tensor([1, 4], "int8", 0.1))
    graph = _graph(builder, builder.unary("CUMSUM", relu, builder.tensor([1, 4], "int8", 0.1)))
    with pytest.raises(ModelError, match=r"CUMSUM in layer 1 '.*' is not supported") as caught:
        check_support(graph)
    assert all(kind in str(caught.value) for kind in LOWERINGS)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError):
        generate(graph, plan_memory(graph), tmp_path)
    assert not list(tmp_path.iterdir())


def test_float_model_is_refused() -> None:
    builder = ModelBuilder()
    data = builder.input([1, 4], None, dtype="float32")
    graph = _graph(builder, builder.unary("RELU", data, builder.tensor([1, 4], "float32")))
    with pytest.raises(ModelError, match="float32, not int8"):
        check_support(graph)


def test_convolution_with_computed_weights_is_refused() -> None:
    builder = ModelBuilder()
    data = builder.input([1, 2, 2, 3], 0.1)
    weights = np.ones((4, 1, 1, 3), dtype=np.int8)
    output = builder.conv_2d(
        data, weights, None, weight_scale=[0.1], output=builder.tensor([1, 2, 2, 4], "int8", 0.1)
    )
    graph = _graph(builder, output)
    computed = graph.tensors[1].__class__(
        1, "w", (4, 1, 1, 3), np.dtype(np.int8), graph.tensors[0].quantization
    )
    tensors = tuple(computed if t.data is not None else t for t in graph.tensors)
    changed = Graph(graph.name, graph.sha256, tensors, graph.operators, graph.inputs, graph.outputs)
    with pytest.raises(ModelError, match=r"CONV_2D .* not a constant"):
        check_support(changed)


def test_needs_alias_reshape_and_plans_take_over_only_dying_inputs() -> None:
    builder = ModelBuilder()
    data = builder.input([1, 2, 2], 0.1)
    flat = builder.reshape(data, builder.tensor([1, 4], "int8", 0.1))
    relu = builder.unary("RELU", flat, builder.tensor([1, 4], "int8", 0.1))
    total = builder.binary("ADD", flat, relu, builder.tensor([1, 4], "int8", 0.1))
    graph = _graph(builder, total)
    needs = engine_needs(graph)
    assert dict(needs.aliases) == {0: data}
    assert dict(needs.in_place) == {1: (flat,), 2: (flat, relu)}
    # RELU may not take over `flat`, which ADD reads; ADD may.
    offsets = plan_memory(graph, needs).tensor_offsets
    assert offsets[relu] != offsets[flat] == offsets[total]


def test_more_inputs_than_the_harness_keeps_are_refused_in_one_line() -> None:
    assert f"kMaxInputs = {MAX_INPUTS};" in (FIRMWARE_DIR / "harness" / "harness.h").read_text()
    builder = ModelBuilder()
    total = builder.input([1, 4], 0.1)
    for count in range(2, MAX_INPUTS + 2):
        more = builder.input([1, 4], 0.1)
        total = builder.binary("ADD", total, more, builder.tensor([1, 4], "int8", 0.1 * count))
        graph = _graph(builder, total)
        if count <= MAX_INPUTS:
            check_ends(graph)
    with pytest.raises(ModelError, match="has 5 inputs, the firmware takes at most 4; join") as caught:
        check_ends(graph)
    assert "\n" not in str(caught.value)


def test_more_outputs_than_the_protocol_can_number_are_refused() -> None:
    builder = ModelBuilder()
    data = builder.input([1, 4], 0.1)
    outputs = [builder.unary("RELU", data, builder.tensor([1, 4], "int8", 0.1)) for _ in range(256)]
    check_ends(_graph(builder, *outputs[:255]))
    with pytest.raises(ModelError, match="has 256 outputs"):
        check_ends(_graph(builder, *outputs))
