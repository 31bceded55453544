from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from codegen.model_builder import ModelBuilder
from shared_data import shared_data
from tflite_files import edited, residual_model, schema

from common.errors import ConfigError, ModelError
from converter.graph import Graph
from converter.reference import quantize_input, reference_outputs, reference_run, reference_tensors
from converter.tflite_reader import load_graph, parse_graph


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(residual_model())
    return path


def _litert(model: Path) -> Any:
    """TensorFlow Lite's own reference kernels."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        str(model),
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    return interpreter


def test_outputs_and_tensors_are_those_of_lites_reference_kernels(model: Path) -> None:
    inputs = np.random.default_rng(0).integers(-128, 128, (6, 8, 8, 3), dtype=np.int8)
    outputs = reference_outputs(model, inputs)
    assert outputs.shape == (6, 2)
    interpreter = _litert(model)
    graph = load_graph(model)
    for sample, output in zip(inputs, outputs, strict=True):
        interpreter.set_tensor(0, sample[None])
        interpreter.invoke()
        np.testing.assert_array_equal(interpreter.get_tensor(graph.outputs[0])[0], output)
    tensors = reference_tensors(model, [inputs[-1]])
    assert set(tensors) == {0, *(operator.outputs[0] for operator in graph.operators)}
    for index, values in tensors.items():
        np.testing.assert_array_equal(interpreter.get_tensor(index), values)


def test_keyword_spotting_scores_as_known_on_its_accuracy_set() -> None:
    path = shared_data("models", "kws_ref_model.tflite")
    with np.load(shared_data("speech_commands", "mlperf_test_1000_mfcc_int8.npz")) as archive:
        inputs, labels = archive["x"][..., None], archive["y"]
    # 902 are known of TFLite's fast kernels; the reference kernels round one of them otherwise.
    assert abs(int((reference_outputs(path, inputs).argmax(axis=1) == labels).sum()) - 902) <= 1


def test_inputs_that_do_not_fit_are_refused(model: Path) -> None:
    with pytest.raises(ConfigError, match=r"takes int8 \[N, 8, 8, 3\], given is int8 \[2, 8, 8, 1\]"):
        reference_outputs(model, np.zeros((2, 8, 8, 1), dtype=np.int8))
    with pytest.raises(ConfigError, match="given is int8"):
        reference_outputs(model, np.zeros((0, 8, 8, 3), dtype=np.int8))
    with pytest.raises(ConfigError, match="1 inputs, given are 2"):
        reference_run(model, [np.zeros((1, 8, 8, 3), dtype=np.int8)] * 2)


def test_an_operator_that_the_interpreter_lacks_is_an_error_not_a_crash(model: Path) -> None:
    def unknown(content: Any) -> None:
        softmax = content.subgraphs[0].operators[6]
        code = content.operatorCodes[softmax.opcodeIndex]
        code.deprecatedBuiltinCode = code.builtinCode = schema.BuiltinOperator.LSH_PROJECTION
        softmax.builtinOptionsType, softmax.builtinOptions = 0, None

    model.write_bytes(edited(residual_model(), unknown))
    with pytest.raises(ModelError, match=r"the tflite-micro interpreter failed: .*'LSH_PROJECTION'"):
        reference_outputs(model, np.zeros((1, 8, 8, 3), dtype=np.int8))


def test_inputs_are_quantized_as_by_the_quantize_operator(tmp_path: Path) -> None:
    builder = ModelBuilder()
    real = builder.input([1, 64], None, dtype="float32")
    quantized = builder.unary("QUANTIZE", real, builder.tensor([1, 64], scale=0.1, zero_point=7))
    path = tmp_path / "quantize.tflite"
    path.write_bytes(builder.build(quantized))
    rng = np.random.default_rng(0)
    values = np.concatenate(
        [
            rng.uniform(-15, 15, (20, 64)),
            np.arange(-640, 640).reshape(20, 64) * 0.05,  # ties
            rng.choice([-1e6, 1e6, 0.0, -0.0, 0.049999997], (5, 64)),
        ]
    ).astype(np.float32)
    (expected,) = reference_run(path, [values])
    graph = _takes_int8()
    np.testing.assert_array_equal(quantize_input(graph, values), expected)


def test_inputs_beyond_the_range_saturate() -> None:
    values = np.array([[-np.inf, -3e38, 3e38, np.inf]], dtype=np.float32)
    np.testing.assert_array_equal(quantize_input(_takes_int8(), values), [[-128, -128, 127, 127]])


def _takes_int8() -> Graph:
    builder = ModelBuilder()
    data = builder.input([1, 64], 0.1, 7)
    output = builder.softmax(data, builder.tensor([1, 64], scale=1 / 256, zero_point=-128))
    return parse_graph(builder.build(output), "m")


def test_nan_is_no_input(model: Path) -> None:
    with pytest.raises(ConfigError, match="NaN"):
        quantize_input(load_graph(model), np.full((1, 8, 8, 3), np.nan, dtype=np.float32))
