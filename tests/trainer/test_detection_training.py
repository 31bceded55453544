"""Detectors that are trained by the loop, as any network is."""

from __future__ import annotations

import csv
import logging

import pytest
import torch
from detection_networks import DETECTOR, MODEL, SIDE, write_shapes
from safetensors.torch import load_file

import trainer
from common.errors import ConfigError
from trainer.checkpoint import load_network
from trainer.config import DetectionConfig, NetBoosterConfig, TrainConfig
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


@pytest.mark.parametrize(("method", "least"), [("plain", 0.4), ("netbooster", 0.2)])
def test_a_detector_learns_coloured_shapes(shapes, tmp_path, method, least, caplog):
    with caplog.at_level(logging.INFO):
        train = TRAIN.model_copy(update={"method": method})
        result = trainer.train(shapes, MODEL, train, tmp_path, show_progress=False)
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert float(rows[-1]["loss"]) < 0.6 * float(rows[0]["loss"])
    assert rows[-1]["train_accuracy"] == ""
    assert result.metric == "AP50"
    assert result.accuracy > least
    assert result.train_accuracy > least
    assert "VOC2007's 11-point AP50" in caplog.text
    network, architecture = load_network(tmp_path)
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
