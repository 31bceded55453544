"""Trainings keep all that they compute with on one device.

The other device is "meta", whose tensors have no values: operators refuse to mix them with the CPU's as they
refuse to mix CUDA's, and no such device is needed.
"""

from __future__ import annotations

from contextlib import nullcontext
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

import trainer
from trainer.average import WeightAverage
from trainer.config import (
    AugmentConfig,
    DataConfig,
    DistillationConfig,
    JitterConfig,
    ModelConfig,
    SpeechCommandsConfig,
    TrainConfig,
)
from trainer.data.clip_variation import VariedClips
from trainer.methods import METHODS, MethodContext
from trainer.optim import make_optimizer, set_learning_rate
from trainer.precision import Precision
from trainer.regularise import regularise
from trainer.tasks import make_task
from trainer.workers import Workers

DEVICE = "meta"
DATA = DataConfig(name="digits", train_limit=64)
MODEL = ModelConfig(
    name="mobilenet_v2",
    stem_channels=8,
    stages=[
        {"expand_ratio": 1, "channels": 8},
        {"expand_ratio": 3, "channels": 8, "blocks": 2, "stride": 2},
    ],
    last_channels=16,
)
TRAIN = TrainConfig(epochs=4, batch_size=16, threads=1)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    recipe = TRAIN.model_copy(update={"epochs": 1, "warmup_epochs": 0})
    trainer.train(DATA, MODEL, recipe, folder, show_progress=False)
    return folder


@pytest.fixture(autouse=True)
def without_values(monkeypatch):
    """Leave out what needs values, or does not know the device."""
    monkeypatch.setattr(Precision, "region", lambda _: nullcontext())
    histogram = torch.bincount

    def bincount(values, minlength=0):
        if values.device.type == DEVICE:
            return torch.empty(minlength, dtype=torch.int64, device=DEVICE)
        return histogram(values, minlength=minlength)

    monkeypatch.setattr(torch, "bincount", bincount)


def train_a_little(data: DataConfig, model: ModelConfig, train: TrainConfig) -> None:
    """Two steps of each epoch, as the training loop makes them."""
    train = train.model_copy(update={"device": DEVICE})
    task = make_task(data, model, train)
    context = MethodContext(task.build(), model, train, task.batches.steps)
    method = regularise(METHODS.get(train.method)(context), context)
    method.network.to(DEVICE).train()
    optimizer = make_optimizer(method.network, train)
    set_learning_rate(optimizer, 0.1)
    for group in optimizer.param_groups:
        group["fused"] = False
    optimizer._need_device_dtype_check_for_fused = False
    average, precision = WeightAverage(optimizer, train.ema), Precision(train)
    with Workers(method, train.workers, precision, accumulate=train.accumulate) as workers:
        for epoch in range(train.epochs):
            method.start_epoch(epoch, optimizer)
            task.objective.start_epoch(epoch)
            workers.start_epoch()
            for number, batch in enumerate(islice(task.batches.epoch(epoch), 2)):
                step = epoch * task.batches.steps + number
                result = workers.backward(batch, task.objective, epoch, step)
                optimizer.step()
                average.update(method.network, step)
                hits = task.hits(result.outputs, batch.labels)
                computed = [batch.images, batch.labels, result.loss, result.outputs, hits]
                computed += [
                    parameter.grad for parameter in method.network.parameters() if parameter.requires_grad
                ]
                assert {tensor.device.type for tensor in computed} == {DEVICE}


@pytest.mark.parametrize("method", ["plain", "netaug", "netbooster", "rocket_launch"])
def test_methods_compute_on_their_device(method):
    train_a_little(DATA, MODEL, TRAIN.model_copy(update={"method": method}))


@pytest.mark.parametrize(
    "changes",
    [
        {"workers": 2, "accumulate": 2, "ema": 0.9, "optimizer": "adam"},
        {"objective": "tf_kd_reg"},
    ],
    ids=str,
)
def test_further_ways_to_train_do(changes):
    train_a_little(DATA, MODEL, TrainConfig.model_validate(TRAIN.model_dump() | changes))


@pytest.mark.parametrize("method", ["netaug", "tinytl"])
def test_trained_weights_and_teachers_come_along(teacher, method):
    changes = {"method": method, "initial": teacher, "objective": "kd"}
    distillation = DistillationConfig(teacher=teacher)
    model = MODEL.model_copy(update={"lite_residuals": method == "tinytl"})
    train_a_little(DATA, model, TRAIN.model_copy(update={**changes, "distillation": distillation}))


@pytest.mark.parametrize(
    ("policy", "crop"), [("randaugment", {"crop_scale": 0.5}), ("autoaugment_cifar10", {"crop_padding": 2})]
)
def test_images_are_varied_there(tmp_path, policy, crop):
    chance = np.random.default_rng(0)
    images, labels = chance.integers(0, 256, (64, 16, 16, 3), np.uint8), np.arange(64) % 10
    parts = {f"{part}_images": images for part in ("train", "test")}
    np.savez(tmp_path / "x.npz", **parts, train_labels=labels, test_labels=labels)
    data = DataConfig(
        name="npz",
        path=tmp_path / "x.npz",
        flip=True,
        jitter=JitterConfig(brightness=0.1, contrast=0.1, saturation=0.1),
        augment=AugmentConfig(policy=policy, mixup=0.2, cutmix=1.0),
        **crop,
    )
    train_a_little(data, MODEL, TRAIN)


def test_spoken_words_are_varied_there():
    samples = np.zeros((3, 16_000), np.int16)
    clips = VariedClips.of(samples, [samples[0]], SpeechCommandsConfig(vary=True)).to(DEVICE)
    assert clips(torch.arange(3, device=DEVICE), torch.Generator()).device.type == DEVICE


def test_labels_that_stay_on_the_cpu_are_refused():
    """Else this file would see nothing."""
    with pytest.raises(RuntimeError, match="device"):
        torch.nn.functional.cross_entropy(torch.empty(2, 4, device=DEVICE), torch.zeros(2, 4))
