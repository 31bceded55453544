"""A detector as an int8 model: its boxes, and the generated code's bits."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from detection_networks import DETECTOR, MODEL, SIDE, write_shapes
from torch import Tensor

import trainer
from converter.codegen import check_support, engine_needs, generate
from converter.codegen.host import build_host_model
from converter.export import export_onnx
from converter.memory import plan_memory
from converter.quantize import quantize_onnx
from converter.reference import quantize_input, reference_outputs
from converter.tflite_reader import load_graph
from trainer.checkpoint import load_network
from trainer.config import DetectionConfig, TrainConfig
from trainer.data import load_dataset, normalise
from trainer.detection import evaluate_detector, load_detection

TRAIN = TrainConfig(
    epochs=40,
    warmup_epochs=4,
    batch_size=8,
    learning_rate=0.02,
    threads=1,
    evaluate_every=40,
    checkpoint_every=40,
    detection=DetectionConfig(expand=False, crop=False, colour=False),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with a trained detector, exported and quantized, and its dataset."""
    folder = tmp_path_factory.mktemp("detector")
    trainer.train(write_shapes(folder / "shapes"), MODEL, TRAIN, folder, show_progress=False)
    network, architecture = load_network(folder)
    dataset = load_dataset(architecture.data)
    samples = normalise(dataset.calibration_images(24), dataset.mean, dataset.std).numpy()
    export_onnx(network, architecture.input_shape, folder / "model.onnx")
    quantize_onnx(folder / "model.onnx", samples, folder / "model.tflite")
    return folder


def int8_answer(path: Path):
    """What an int8 model answers to float images, as the network would: real numbers again."""
    graph = load_graph(path)
    output = graph.tensors[graph.outputs[0]]

    def answer(images: Tensor) -> Tensor:
        inputs = quantize_input(graph, images.permute(0, 2, 3, 1).numpy())
        raw = reference_outputs(path, inputs).astype(np.float32)
        return torch.from_numpy((raw - output.zero_point) * output.scale)

    return answer


def test_the_int8_model_finds_what_the_float_network_finds(run):
    network, architecture = load_network(run)
    dataset = load_detection(architecture.data)
    float_scores = evaluate_detector(network, DETECTOR, dataset)
    int8_scores = evaluate_detector(int8_answer(run / "model.tflite"), DETECTOR, dataset)
    assert float_scores.ap50 > 0.2
    assert int8_scores.ap50 == pytest.approx(float_scores.ap50, abs=0.15)
    assert int8_scores.ap50 > 0.1


def test_the_int8_model_has_one_output_of_all_predictions(run):
    graph = load_graph(run / "model.tflite")
    shapes = [graph.tensors[index].shape for index in graph.outputs]
    assert shapes == [(1, 3 * (64 + 16 + 4), 7)]
    kinds = Counter(operator.kind for operator in graph.operators)
    assert kinds["RESIZE_NEAREST_NEIGHBOR"] == 2
    assert kinds["CONCATENATION"] == 3
    assert kinds["LEAKY_RELU"] == 3 * 9 + 2


def test_the_generated_code_is_bit_exact(run, tmp_path):
    graph = load_graph(run / "model.tflite")
    check_support(graph)
    generate(graph, plan_memory(graph, engine_needs(graph)), tmp_path)
    model = build_host_model(graph, tmp_path)
    dataset = load_dataset(load_network(run)[1].data)
    pixels = np.concatenate([images for images, _ in dataset.test(4)])
    real = quantize_input(graph, normalise(pixels, dataset.mean, dataset.std).permute(0, 2, 3, 1).numpy())
    noise = np.random.default_rng(0).integers(-128, 128, (3, SIDE, SIDE, 3), dtype=np.int8)
    inputs = np.concatenate([real, noise])
    expected = reference_outputs(run / "model.tflite", inputs)
    for sample, wanted in zip(inputs, expected, strict=True):
        np.testing.assert_array_equal(model(sample[None])[0][0], wanted)
