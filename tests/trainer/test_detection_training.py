"""Detectors that are trained by the loop and converted to int8, as any network is."""

from __future__ import annotations

import csv
import logging
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from detection_networks import DETECTOR, MODEL, SIDE, detector, write_shapes
from safetensors.torch import load_file
from torch import Tensor

import trainer
from common.errors import ConfigError
from converter.codegen import check_support, engine_needs, generate
from converter.codegen.host import build_host_model
from converter.export import export_onnx
from converter.memory import plan_memory
from converter.quantize import quantize_onnx
from converter.reference import quantize_input, reference_outputs
from converter.tflite_reader import load_graph
from tools.evaluation import Evaluation, evaluate_trained
from tools.runs import RunFolder
from trainer.checkpoint import load_network
from trainer.config import DetectionConfig, NetAugConfig, NetBoosterConfig, TrainConfig
from trainer.data import load_dataset, normalise
from trainer.detection import DetectionBatches, Detector, evaluate_detector, load_detection
from trainer.tasks import make_task

TRAIN = TrainConfig(
    epochs=45,
    warmup_epochs=4,
    images_per_epoch=24,
    batch_size=8,
    learning_rate=0.02,
    weight_decay=5e-4,
    threads=1,
    evaluate_every=45,
    checkpoint_every=45,
    netbooster=NetBoosterConfig(giant_epochs=20, decay_epochs=5),
    detection=DetectionConfig(expand=False, crop=False, colour=False),
)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shapes") / "shapes")


@pytest.fixture(scope="module")
def trained(shapes, tmp_path_factory):
    """The folder of a plain training, with the model exported and quantized, and its result."""
    folder = tmp_path_factory.mktemp("trained")
    result = trainer.train(shapes, MODEL, TRAIN, folder, show_progress=False)
    network, architecture = load_network(folder)
    dataset = load_dataset(architecture.data)
    samples = normalise(dataset.calibration_images(24), dataset.mean, dataset.std).numpy()
    export_onnx(network, architecture.input_shape, folder / "model.onnx")
    quantize_onnx(folder / "model.onnx", samples, folder / "model.tflite")
    return folder, result


def test_a_detector_learns_coloured_shapes(trained):
    check_learnt(*trained, least=0.4)


def test_a_detector_learns_as_a_giant_that_is_contracted(shapes, tmp_path, caplog):
    train = TRAIN.model_copy(update={"method": "netbooster"})
    with caplog.at_level(logging.INFO):
        result = trainer.train(shapes, MODEL, train, tmp_path, show_progress=False)
    scores = [line for line in caplog.messages if "VOC2007's 11-point AP50" in line]
    assert len(scores) == 1, "the last epoch's network is the final one"
    assert scores[0].startswith("test split: AP50")
    check_learnt(tmp_path, result, least=0.2)


def check_learnt(folder, result, least):
    """The loss fell, and the network that was saved finds the shapes as well as the result says."""
    rows = list(csv.DictReader((folder / "log.csv").open()))
    assert float(rows[-1]["loss"]) < 0.6 * float(rows[0]["loss"])
    assert rows[-1]["train_accuracy"] == ""
    assert result.metric == "AP50"
    assert result.accuracy > least
    assert result.train_accuracy > least
    network, architecture = load_network(folder)
    assert isinstance(network, Detector)
    assert architecture.class_names == ("disc", "square")
    assert architecture.input_shape == (3, SIDE, SIDE)
    dataset = load_detection(architecture.data)
    assert evaluate_detector(network, DETECTOR, dataset).ap50 == pytest.approx(result.accuracy)


@pytest.mark.parametrize("update", [{}, {"workers": 2}], ids=["alone", "two workers"])
def test_a_resumed_training_gives_the_same_weights(shapes, tmp_path, update, monkeypatch):
    detection = DetectionConfig(sizes=(32, 64), size_every=2, mixup=0.5, no_mixup_epochs=1)
    short = {"epochs": 3, "warmup_epochs": 1, "checkpoint_every": 1, "detection": detection} | update
    train = TRAIN.model_copy(update=short | {"images_per_epoch": 16})

    trainer.train(shapes, MODEL, train, tmp_path / "whole", show_progress=False)
    size = DetectionBatches._size

    def interrupted(batches, step):
        if step == 4:  # the first of the last epoch
            raise KeyboardInterrupt
        return size(batches, step)

    monkeypatch.setattr(DetectionBatches, "_size", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.train(shapes, MODEL, train, tmp_path / "parts", show_progress=False)
    monkeypatch.setattr(DetectionBatches, "_size", size)
    trainer.train(shapes, MODEL, train, tmp_path / "parts", resume=True, show_progress=False)
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_objectives_of_classification_are_refused_in_one_line(shapes):
    with pytest.raises(ConfigError, match=r"train\.objective 'kd' is for classification"):
        make_task(shapes, MODEL, TRAIN.model_copy(update={"objective": "kd"}))


def test_a_dataset_of_boxes_without_a_detector_is_refused_in_one_line(shapes):
    with pytest.raises(ConfigError, match=r"'voc' has boxes: give the network a \[model\.detector\]"):
        make_task(shapes, MODEL.model_copy(update={"detector": None}), TRAIN)


def test_batches_larger_than_an_epoch_are_refused(shapes):
    with pytest.raises(ConfigError, match=r"train\.batch_size 64 is more than the 24 images"):
        make_task(shapes, MODEL, TRAIN.model_copy(update={"batch_size": 64}))


def int8_answer(path: Path):
    """What an int8 model answers to float images, as the network would: real numbers again."""
    graph = load_graph(path)
    output = graph.tensors[graph.outputs[0]]

    def answer(images: Tensor) -> Tensor:
        inputs = quantize_input(graph, images.permute(0, 2, 3, 1).numpy())
        raw = reference_outputs(path, inputs).astype(np.float32)
        return torch.from_numpy((raw - output.zero_point) * output.scale)

    return answer


def test_the_int8_model_finds_what_the_float_network_finds(trained):
    folder, _ = trained
    network, architecture = load_network(folder)
    dataset = load_detection(architecture.data)
    float_scores = evaluate_detector(network, DETECTOR, dataset)
    int8_scores = evaluate_detector(int8_answer(folder / "model.tflite"), DETECTOR, dataset)
    assert float_scores.ap50 > 0.2
    assert int8_scores.ap50 == pytest.approx(float_scores.ap50, abs=0.15)
    assert int8_scores.ap50 > 0.1


def test_the_int8_model_has_one_output_of_all_predictions(trained):
    folder, _ = trained
    graph = load_graph(folder / "model.tflite")
    shapes = [graph.tensors[index].shape for index in graph.outputs]
    assert shapes == [(1, 3 * (64 + 16 + 4), 7)]
    kinds = Counter(operator.kind for operator in graph.operators)
    assert kinds["RESIZE_NEAREST_NEIGHBOR"] == 2
    assert kinds["CONCATENATION"] == 3
    assert kinds["LEAKY_RELU"] == 3 * 9 + 2


def test_the_generated_code_is_bit_exact(trained, tmp_path):
    folder, _ = trained
    graph = load_graph(folder / "model.tflite")
    check_support(graph)
    generate(graph, plan_memory(graph, engine_needs(graph)), tmp_path)
    model = build_host_model(graph, tmp_path)
    dataset = load_dataset(load_network(folder)[1].data)
    pixels = np.concatenate([images for images, _ in dataset.test(4)])
    real = quantize_input(graph, normalise(pixels, dataset.mean, dataset.std).permute(0, 2, 3, 1).numpy())
    noise = np.random.default_rng(0).integers(-128, 128, (3, SIDE, SIDE, 3), dtype=np.int8)
    inputs = np.concatenate([real, noise])
    expected = reference_outputs(folder / "model.tflite", inputs)
    for sample, wanted in zip(inputs, expected, strict=True):
        np.testing.assert_array_equal(model(sample[None])[0][0], wanted)


def test_netaug_gives_a_detector_of_the_plain_architecture(shapes, tmp_path):
    netaug = NetAugConfig(width=(1.0, 1.5), expand=(1.0, 1.5), calibration_images=16)
    short = {"method": "netaug", "epochs": 2, "warmup_epochs": 1, "netaug": netaug}
    result = trainer.train(shapes, MODEL, TRAIN.model_copy(update=short), tmp_path, show_progress=False)
    network, _ = load_network(tmp_path)
    assert isinstance(network, Detector)
    assert result.parameters == sum(p.numel() for p in detector().parameters())


def test_an_evaluation_scores_the_float_and_the_int8_detector(trained, tmp_path):
    folder, _ = trained
    run = RunFolder(tmp_path / "run")
    shutil.copytree(folder, run.training)
    shutil.copy(folder / "model.tflite", run.tflite)
    evaluate_trained(run, load_graph(run.tflite), 1_000).save(run.evaluation)
    precisions = Evaluation.load(run.evaluation).precisions
    network, architecture = load_network(folder)
    dataset = load_detection(architecture.data)
    for row, answer in zip(precisions, (network, int8_answer(run.tflite)), strict=True):
        scores = evaluate_detector(answer, DETECTOR, dataset)
        assert row.tolist() == pytest.approx([scores.ap50, scores.mean_ap, scores.voc_ap50])
