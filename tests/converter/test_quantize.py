from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from converted_model import Converted
from onnx import TensorProto, helper
from shared_data import shared_data
from tflite_files import edited, residual_model, schema

from common.errors import ConfigError, ModelError
from converter.quantize import adopt_tflite, check_quantized, is_quantized, load_calibration, quantize_onnx
from converter.reference import quantize_input, reference_outputs
from converter.tflite_reader import load_graph, parse_graph

SAMPLES = np.random.default_rng(0).standard_normal((40, 3, 8, 8)).astype(np.float32)


def test_the_converted_graph_is_int8_and_clean(converted: Converted) -> None:
    graph = load_graph(converted.tflite)
    assert is_quantized(graph)
    assert [(operator.kind, operator.name) for operator in graph.operators] == [
        ("CONV_2D", "stem.1"),
        ("DEPTHWISE_CONV_2D", "depthwise.0"),
        ("CONV_2D", "project.0"),
        ("ADD", "add"),
        ("MEAN", "mean"),
        ("FULLY_CONNECTED", "classifier"),
    ]
    assert graph.tensors[graph.inputs[0]].shape == (1, 32, 32, 3)
    weights = graph.tensors[graph.operators[0].inputs[1]].quantization
    assert weights is not None
    assert weights.scale.shape == (8,)


def test_the_int8_model_answers_like_the_float_one(converted: Converted) -> None:
    graph = load_graph(converted.tflite)
    inputs = quantize_input(graph, converted.samples.transpose(0, 2, 3, 1))
    output = graph.tensors[graph.outputs[0]]
    answers = reference_outputs(converted.tflite, inputs).astype(np.float64)
    real = (answers - output.zero_point) * output.scale
    with torch.no_grad():
        expected = converted.network.eval()(torch.from_numpy(converted.samples)).numpy()
    assert np.corrcoef(real.ravel(), expected.ravel())[0, 1] > 0.99
    assert np.abs(real - expected).max() < 0.1 * np.abs(expected).max()


def test_the_same_input_gives_the_same_bytes(converted: Converted, tmp_path: Path) -> None:
    before = converted.onnx.read_bytes()
    quantize_onnx(converted.onnx, converted.samples, tmp_path / "again.tflite")
    assert (tmp_path / "again.tflite").read_bytes() == converted.tflite.read_bytes()
    assert converted.onnx.read_bytes() == before


def _onnx(kind: str, shape: list[Any], *, inputs: int = 1, dtype: int = TensorProto.FLOAT) -> bytes:
    names = [f"x{i}" for i in range(inputs)]
    graph = helper.make_graph(
        [helper.make_node(kind, names, ["y"])],
        "g",
        [helper.make_tensor_value_info(name, dtype, shape) for name in names],
        [helper.make_tensor_value_info("y", dtype, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    data: bytes = model.SerializeToString()
    return data


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "random": (lambda: np.random.default_rng(1).bytes(4000), "not an ONNX file"),
    "empty": (lambda: b"", "not a valid ONNX model"),
    "truncated": (lambda: _onnx("Relu", [1, 3, 8, 8])[:-20], "not an ONNX file"),
    "dynamic": (
        lambda: _onnx("Relu", ["batch", 3, 8, 8]),
        r"'x0' has a dynamic dimension 'batch' \(axis 0\)",
    ),
    "batch": (lambda: _onnx("Relu", [4, 3, 8, 8]), "export with batch 1"),
    "two inputs": (lambda: _onnx("Add", [1, 3, 8, 8], inputs=2), r"2 inputs \(x0, x1\)"),
    "double": (lambda: _onnx("Relu", [1, 3, 8, 8], dtype=TensorProto.DOUBLE), "'x0' is DOUBLE"),
    "unknown operator": (lambda: _onnx("Nonsense", [1, 3, 8, 8]), "Nonsense"),
    "another shape": (
        lambda: _onnx("Relu", [1, 3, 9, 9]),
        r"samples are \[3, 8, 8\], input 'x0' takes \[3, 9, 9\]",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unusable_onnx_files_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    make, message = REFUSED[name]
    path = tmp_path / "model.onnx"
    path.write_bytes(make())
    with pytest.raises(ModelError, match=message) as caught:
        quantize_onnx(path, SAMPLES, tmp_path / "model.tflite")
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["model.onnx", "model.tflite.log"]


def test_an_operator_without_tflite_equal_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(_onnx("Erf", [1, 3, 8, 8]))
    with pytest.raises(ModelError, match="TFLite has no operator for Erf"):
        quantize_onnx(path, SAMPLES, tmp_path / "model.tflite")
    assert not (tmp_path / "model.tflite").exists()


def test_calibration_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "samples.npy"
    np.save(path, SAMPLES)
    np.testing.assert_array_equal(load_calibration(path), SAMPLES)
    np.save(path, SAMPLES[:3])
    with caplog.at_level(logging.WARNING):
        load_calibration(path)
    assert "only 3 samples" in caplog.text


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (SAMPLES.astype(np.float64), "float32"),
        (SAMPLES[:0], "float32"),
        (np.full((4, 2), np.nan, dtype=np.float32), "NaN"),
    ],
)
def test_unusable_calibration_is_refused(array: Any, message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "samples.npy", array)
    with pytest.raises(ConfigError, match=message):
        load_calibration(tmp_path / "samples.npy")


def test_calibration_that_is_no_array_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00broken")
    np.savez(tmp_path / "b.npz", SAMPLES)
    np.save(tmp_path / "c.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name in ("a.npy", "b.npz", "c.npy", "absent.npy"):
        with pytest.raises(ConfigError, match=name):
            load_calibration(tmp_path / name)


def test_real_models_are_quantized() -> None:
    for path in sorted(shared_data("models").glob("*.tflite")):
        assert is_quantized(load_graph(path))


def test_a_float_model_is_told_what_to_do() -> None:
    def to_float(model: Any) -> None:
        for tensor in model.subgraphs[0].tensors:
            if not tensor.buffer:
                tensor.type, tensor.quantization = schema.TensorType.FLOAT32, None

    graph = parse_graph(edited(residual_model(), to_float), "mine")
    assert not is_quantized(graph)
    with pytest.raises(
        ModelError, match=r"mine: tensor 't0' is float32; quantize the model to full int8 first"
    ):
        check_quantized(graph)


def test_a_tflite_of_ones_own_is_checked_and_copied(tmp_path: Path) -> None:
    mine, ours = tmp_path / "mine.tflite", tmp_path / "run" / "model.tflite"
    mine.write_bytes(residual_model())
    assert adopt_tflite(mine, ours).name == "mine"
    assert ours.read_bytes() == mine.read_bytes()
    ours.unlink()
    mine.write_bytes(residual_model()[:-100])
    with pytest.raises(ModelError, match=r"mine\.tflite: "):
        adopt_tflite(mine, ours)
    assert list(ours.parent.iterdir()) == []


def test_onnx_weights_stay_inside_the_file_that_is_given(converted: Converted) -> None:
    assert not onnx.load(converted.onnx, load_external_data=False).graph.initializer[0].external_data
