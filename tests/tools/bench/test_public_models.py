"""The public int8 models on the virtual board: every output equal to tflite-micro's."""

from pathlib import Path

import numpy as np
import pytest
from real_inputs import Inputs, photos, spectrograms, speech_features
from shared_data import shared_data

from converter.graph import Tensor
from converter.tflite_reader import load_graph
from tools.bench import bench
from tools.config import RunConfig
from tools.runs import RunFolder

EACH = 20


def real_inputs(name: str, tensor: Tensor) -> Inputs:
    match name:
        case "kws_ref_model":
            return speech_features(EACH)
        case "ad01_int8":
            return spectrograms(EACH, tensor.scale, tensor.zero_point)
    _, height, width, channels = tensor.shape
    return photos(EACH, height, width, channels)


@pytest.mark.parametrize(
    "name", ["kws_ref_model", "pretrainedResnet_quant", "vww_96_int8", "ad01_int8", "person_detect"]
)
def test_random_and_real_inputs_are_bit_exact(name: str, tmp_path: Path) -> None:
    model = shared_data("models", f"{name}.tflite")
    graph = load_graph(model)
    real = real_inputs(name, graph.tensors[graph.inputs[0]])
    random = np.random.default_rng(3).integers(-128, 128, real.shape, np.int8)
    np.save(tmp_path / "inputs.npy", np.concatenate([random, real]))
    run = RunFolder(tmp_path / "run")
    result = bench(run, model, RunConfig(), "virtual", inputs=tmp_path / "inputs.npy", count=2 * EACH)
    assert (result.bit_exact.inputs, result.bit_exact.mismatches) == (2 * EACH, 0)
