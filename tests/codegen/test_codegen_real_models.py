from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from oracle import assert_bit_exact, assert_equal, build, generated, interpreter, reference, run_sanitized
from PIL import Image
from shared_data import shared_data

MODELS = [
    "ad01_int8",
    "hello_world_int8",
    "kws_ref_model",
    "micro_speech_quantized",
    "person_detect",
    "pretrainedResnet_quant",
    "vww_96_int8",
]


@pytest.mark.parametrize("name", MODELS)
def test_random_inputs_are_bit_exact(name: str, tmp_path: Path) -> None:
    data = shared_data("models", f"{name}.tflite").read_bytes()
    assert_bit_exact(data, tmp_path, rounds=200, seed=7)


@pytest.mark.parametrize("name", MODELS)
def test_whole_models_are_free_of_undefined_behaviour(name: str, tmp_path: Path) -> None:
    data = shared_data("models", f"{name}.tflite").read_bytes()
    assert_bit_exact(data, tmp_path, rounds=3, seed=8, sanitized=True)


def test_real_speech_is_bit_exact_and_free_of_undefined_behaviour(tmp_path: Path) -> None:
    data = shared_data("models", "kws_ref_model.tflite").read_bytes()
    clips = np.load(shared_data("speech_commands", "mlperf_test_1000_mfcc_int8.npz"))
    graph = generated(data, tmp_path)
    runs = [[clip.reshape(graph.tensors[graph.inputs[0]].shape)] for clip in clips["x"][::40]]
    oracle = interpreter(data)
    for inputs, answer in zip(runs, run_sanitized(graph, tmp_path, runs), strict=True):
        assert_equal(graph, answer, reference(oracle, inputs))


@pytest.mark.parametrize("name", ["pretrainedResnet_quant", "vww_96_int8", "person_detect"])
def test_real_photos_are_bit_exact(name: str, tmp_path: Path) -> None:
    data = shared_data("models", f"{name}.tflite").read_bytes()
    mosaic = Image.open(shared_data("cifar10", "test_batch.webp"))
    graph, model = build(data, tmp_path)
    _, height, width, channels = graph.tensors[graph.inputs[0]].shape
    oracle = interpreter(data)
    for i in range(20):
        photo = mosaic.crop((32 * i, 0, 32 * i + 32, 32)).convert("RGB" if channels == 3 else "L")
        pixels = np.asarray(photo.resize((width, height))).reshape(1, height, width, channels)
        inputs = [(pixels.astype(np.int16) - 128).astype(np.int8)]
        assert_equal(graph, model(*inputs), reference(oracle, inputs))


def test_description_identifies_the_model(tmp_path: Path) -> None:
    data = shared_data("models", "hello_world_int8.tflite").read_bytes()
    _, model = build(data, tmp_path)
    lines = dict(line.split("=", 1) for line in model.description.splitlines())
    assert lines["engine"] == "aot"
    assert lines["model_sha256"] == hashlib.sha256(data).hexdigest()
    assert lines["ops"] == "FULLY_CONNECTED"
    assert lines["layers"] == "3"
    kind, shape, scale, zero_point = lines["input0"].split(":")
    assert (kind, shape, zero_point) == ("int8", "1x1", "-128")
    assert np.float32(scale) == np.float32(0.024480115622282028)
