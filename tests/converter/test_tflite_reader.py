from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_data import shared_data
from tflite_files import edited, residual_model, schema

from common.errors import ModelError
from converter.costs import graph_macs, operator_macs, weights_bytes
from converter.graph import Activation, Conv2DOptions, DepthwiseConv2DOptions, Graph, Padding, PoolOptions
from converter.tflite_reader import load_graph, parse_graph

MODEL = residual_model()

# MLPerf Tiny's and TFLM's own models: published multiply-accumulates, operators.
REAL = {
    "kws_ref_model": (2_656_768, {"CONV_2D": 5, "DEPTHWISE_CONV_2D": 4, "FULLY_CONNECTED": 1}),
    "pretrainedResnet_quant": (12_501_632, {"CONV_2D": 9, "ADD": 3, "AVERAGE_POOL_2D": 1, "RESHAPE": 1}),
    "vww_96_int8": (7_489_664, {"CONV_2D": 14, "DEPTHWISE_CONV_2D": 13, "SOFTMAX": 1}),
    "ad01_int8": (264_192, {"FULLY_CONNECTED": 10}),
    "person_detect": (7_157_888, {"CONV_2D": 14, "DEPTHWISE_CONV_2D": 14, "RESHAPE": 1}),
}


@pytest.mark.parametrize("name", REAL)
def test_real_models_have_their_published_operators_and_macs(name: str) -> None:
    graph = load_graph(shared_data("models", f"{name}.tflite"))
    macs, kinds = REAL[name]
    assert graph_macs(graph) == macs
    counted = Counter(operator.kind for operator in graph.operators)
    assert {kind: counted[kind] for kind in kinds} == kinds
    names = [operator.name for operator in graph.operators]
    assert len(set(names)) == len(names)
    assert all(graph.tensors[i].dtype == np.int8 for i in graph.inputs + graph.outputs)


def test_real_layers_have_readable_names() -> None:
    graph = load_graph(shared_data("models", "vww_96_int8.tflite"))
    names = [operator.name for operator in graph.operators]
    assert names[:3] == ["conv2d", "depthwise_conv2d", "conv2d_1"]
    assert names[-4:] == ["average_pooling2d", "flatten", "dense", "softmax"]


def test_all_fields_of_a_small_model() -> None:
    graph = parse_graph(MODEL, "small")
    conv, depthwise, _, add, mean, dense, softmax = graph.operators
    assert [op.kind for op in (conv, depthwise, add, mean, dense, softmax)] == [
        *("CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MEAN", "FULLY_CONNECTED", "SOFTMAX")
    ]
    assert conv.options == Conv2DOptions(Padding.SAME, (1, 1), (1, 1), Activation.RELU6)
    assert depthwise.options == DepthwiseConv2DOptions(Padding.SAME, (1, 1), 1, (1, 1), Activation.NONE)
    source = graph.tensors[graph.inputs[0]]
    assert (source.shape, source.scale, source.zero_point) == ((1, 8, 8, 3), pytest.approx(0.05), 3)
    weights = graph.tensors[conv.inputs[1]]
    assert weights.data is not None
    assert weights.data.dtype == np.int8
    assert not weights.data.flags.writeable
    assert weights.quantization is not None
    np.testing.assert_allclose(weights.quantization.scale, [0.01, 0.02, 0.03, 0.04])
    depth_weights = graph.tensors[depthwise.inputs[1]].quantization
    assert depth_weights is not None
    assert depth_weights.axis == 3


def test_costs_of_a_small_model() -> None:
    graph = parse_graph(MODEL, "small")
    macs = [operator_macs(graph, operator) for operator in graph.operators]
    assert macs == [8 * 8 * 4 * 27, 8 * 8 * 4 * 9, 8 * 8 * 4 * 4, 0, 0, 8, 0]
    assert weights_bytes(graph) == (4 * 27 + 16, 36 + 16, 16 + 16, 0, 8, 8 + 8, 0)


def test_a_shared_constant_is_counted_once() -> None:
    def share(model: Any) -> None:
        operators = model.subgraphs[0].operators
        operators[2].inputs = [*operators[2].inputs[:2], operators[0].inputs[2]]

    graph = parse_graph(edited(MODEL, share), "shared")
    assert weights_bytes(graph)[:3] == (4 * 27 + 16, 36 + 16, 16)


def test_pool_options() -> None:
    graph = load_graph(shared_data("models", "kws_ref_model.tflite"))
    assert graph.operators[9].options == PoolOptions(Padding.VALID, (25, 5), (25, 5))


def test_an_unsupported_operator_keeps_its_name() -> None:
    def foreign(model: Any) -> None:
        operators = model.subgraphs[0].operators
        add, softmax = (model.operatorCodes[operators[i].opcodeIndex] for i in (3, 6))
        add.deprecatedBuiltinCode = add.builtinCode = schema.BuiltinOperator.CUSTOM
        add.customCode = b"My\nOp"
        softmax.deprecatedBuiltinCode = softmax.builtinCode = schema.BuiltinOperator.SIN

    graph = parse_graph(edited(MODEL, foreign), "foreign")
    assert [graph.operators[3].kind, graph.operators[6].kind] == ["CUSTOM:My_Op", "SIN"]


def test_person_detects_bias_with_axis_3_is_read() -> None:
    graph = load_graph(shared_data("models", "person_detect.tflite"))
    bias = graph.tensors[graph.operators[1].inputs[2]]
    assert bias.quantization is not None
    assert bias.quantization.scale.shape == bias.shape


def _tensor(field: str, value: Any, index: int = 0) -> Callable[[Any], None]:
    return lambda model: setattr(model.subgraphs[0].tensors[index], field, value)


def _operator(index: int, field: str, value: Any) -> Callable[[Any], None]:
    return lambda model: setattr(model.subgraphs[0].operators[index], field, value)


def _option(index: int, field: str, value: Any) -> Callable[[Any], None]:
    return lambda model: setattr(model.subgraphs[0].operators[index].builtinOptions, field, value)


def _subgraph(field: str, value: Any) -> Callable[[Any], None]:
    return lambda model: setattr(model.subgraphs[0], field, value)


def _quantization(index: int, field: str, value: Any) -> Callable[[Any], None]:
    return lambda model: setattr(model.subgraphs[0].tensors[index].quantization, field, value)


# Tensors of the model: 0 input, 1..4 maps, 5 weights and 6 bias of the first convolution.
CONTRADICTIONS = {
    "schema version": (lambda model: setattr(model, "version", 9), "version 9"),
    "two subgraphs": (lambda model: model.subgraphs.append(model.subgraphs[0]), "2 subgraphs"),
    "dynamic shape": (_tensor("shapeSignature", [1, -1, 8, 3]), r"'t0' has a dynamic shape \[1, -1, 8, 3\]"),
    "dynamic batch of two": (_tensor("shape", [2, 8, 8, 3]), "declares output shape"),
    "empty dimension": (_tensor("shape", [1, 0, 8, 3]), r"'t0' has shape \[1, 0, 8, 3\]"),
    "negative dimension": (_tensor("shape", [1, -8, -8, 3]), "every dimension"),
    "enormous tensor": (_tensor("shape", [1, 2**31 - 1, 2**31 - 1, 3]), "no microcontroller"),
    "many dimensions": (_tensor("shape", [1] * 100), "more than 8 dimensions"),
    "string tensor": (_tensor("type", schema.TensorType.STRING), "type STRING"),
    "unknown type": (_tensor("type", 77), "type 77"),
    "variable": (_tensor("isVariable", True), "a variable"),
    "buffer out of range": (_tensor("buffer", 99), "points to buffer 99"),
    "constant of another size": (_tensor("shape", [4, 3, 3, 4], 5), "needs 144 bytes, has 108"),
    "scales do not fit": (_quantization(5, "scale", [0.1, 0.2]), "2 scales and 4 zero points"),
    "axis out of range": (_quantization(5, "quantizedDimension", 7), "4 scales along axis 7"),
    "axis of another size": (_quantization(5, "quantizedDimension", 1), "4 scales along axis 1"),
    "scale is NaN": (_quantization(0, "scale", [float("nan")]), "no positive number"),
    "scale is zero": (_quantization(0, "scale", [0.0]), "no positive number"),
    "zero point outside int8": (_quantization(0, "zeroPoint", [200]), "zero point outside int8"),
    "input index": (_subgraph("inputs", [1000]), "tensor index 1000"),
    "no outputs": (_subgraph("outputs", []), "no inputs or no outputs"),
    "no operators": (_subgraph("operators", []), "no operators"),
    "output never written": (lambda m: m.subgraphs[0].operators.pop(), "nothing writes the output"),
    "constant output": (_subgraph("outputs", [5]), "is a constant"),
    "operator index": (_operator(0, "inputs", [0, -5, 6]), "tensor index -5"),
    "operator code": (_operator(0, "opcodeIndex", 50), "has code 50"),
    "cycle": (_operator(0, "inputs", [4, 5, 6]), "before anything writes it"),
    "order": (lambda model: model.subgraphs[0].operators.reverse(), "before anything writes it"),
    "written twice": (_operator(1, "outputs", [1]), "which has a value"),
    "writes a constant": (_operator(0, "outputs", [5]), "which has a value"),
    "writes the input": (_operator(0, "outputs", [0]), "which has a value"),
    "lacks weights": (_operator(0, "inputs", [0, -1, 6]), "lacks a required input"),
    "too few inputs": (_operator(0, "inputs", [0]), "has 1 inputs"),
    "no stride": (_option(0, "strideH", 0), "strides 0x1"),
    "stride": (_option(0, "strideW", 2), r"declares output shape \[1, 8, 8, 4\], but gives \[1, 8, 4, 4\]"),
    "padding": (_option(0, "padding", 5), "unsupported padding"),
    "activation": (_option(0, "fusedActivationFunction", 5), "unsupported fused activation"),
    "multiplier": (_option(1, "depthMultiplier", 2), "multiplier 2"),
    "no options": (_operator(0, "builtinOptions", None), "CONV_2D 't1' has no options"),
    "shuffled weights": (_option(5, "weightsFormat", 1), "shuffled weights"),
    "beta": (_option(6, "beta", float("inf")), "beta inf"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_contradictions_are_named(name: str) -> None:
    edit, message = CONTRADICTIONS[name]
    with pytest.raises(ModelError, match=message) as caught:
        parse_graph(edited(MODEL, edit), "broken")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("broken: ")


def test_a_free_batch_of_one_is_how_keras_models_come() -> None:
    graph = parse_graph(edited(MODEL, _tensor("shapeSignature", [-1, 8, 8, 3])), "keras")
    assert graph.tensors[0].shape == (1, 8, 8, 3)


def test_hostile_names_become_printable() -> None:
    data = edited(MODEL, _tensor("name", b"*/\n\x1b[31m\\\xff evil" + b"x" * 1000, 1))
    name = parse_graph(data, "m").operators[0].name
    assert len(name) <= 64
    assert all(c.isalnum() or c in "_./-" for c in name)


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 7, b"TFL3TFL3", b"\x80\x02}q\x00." * 10, b"\xff" * 4 + b"TFL3"]
)
def test_what_is_no_model(data: bytes) -> None:
    with pytest.raises(ModelError):
        parse_graph(data, "m")


def test_an_absent_file_is_named(tmp_path: Any) -> None:
    with pytest.raises(ModelError, match=r"gone.tflite: cannot be read: No such file"):
        load_graph(tmp_path / "gone.tflite")


@pytest.mark.parametrize("length", range(0, len(MODEL), 97))
def test_truncated_files_are_refused(length: int) -> None:
    with pytest.raises(ModelError):
        parse_graph(MODEL[:length], "m")


def _consistent(graph: Graph) -> None:
    """What whoever uses a graph relies on."""
    for operator in graph.operators:
        assert all(-1 <= i < len(graph.tensors) for i in operator.inputs + operator.outputs)
    for tensor in graph.tensors:
        assert all(size >= 1 for size in tensor.shape)
        assert tensor.data is None or tensor.data.shape == tensor.shape


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(MODEL) - 1), st.one_of(st.integers(0, 255), st.sampled_from([0, 127, 255]))
        ),
        min_size=1,
        max_size=24,
    )
)
def test_changed_bytes_give_a_graph_or_a_model_error(changes: list[tuple[int, int]]) -> None:
    data = bytearray(MODEL)
    for position, value in changes:
        data[position] = value
    try:
        graph = parse_graph(bytes(data), "m")
    except ModelError:
        return
    _consistent(graph)


@settings(max_examples=300, deadline=None)
@given(st.integers(8, len(MODEL) // 4 - 1), st.integers(-(2**31), 2**32 - 1), st.integers(0, 200))
def test_changed_words_give_a_graph_or_a_model_error(word: int, value: int, also: int) -> None:
    data = bytearray(MODEL)
    for position in (word, max(2, word - also)):
        data[4 * position : 4 * position + 4] = (value & 0xFFFFFFFF).to_bytes(4, "little")
    try:
        graph = parse_graph(bytes(data), "m")
    except ModelError:
        return
    _consistent(graph)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=2000))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ModelError):
        parse_graph(data[:4] + b"TFL3" + data[4:], "m")
