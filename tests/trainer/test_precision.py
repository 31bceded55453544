"""16-bit precision: what it changes, and what it must leave as it is."""

from __future__ import annotations

import csv
import math

import pytest
import torch
from safetensors.torch import load_file
from tiny_configs import DATA, MODEL, TRAIN, network, randomise
from torch import nn

import trainer
from trainer.config import TrainConfig
from trainer.data.batches import Batch
from trainer.methods import METHODS, MethodContext
from trainer.objectives import OBJECTIVES, ObjectiveContext
from trainer.optim import make_optimizer
from trainer.precision import Precision
from trainer.workers import Workers

BATCH = Batch(torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(2)), torch.arange(16) % 10)


def config(**values) -> TrainConfig:
    return TrainConfig.model_validate(TRAIN.model_dump() | {"batch_size": 16} | values)


def gradients(train: TrainConfig) -> dict[str, torch.Tensor]:
    """Of one step with a new network, whose losses are scaled."""
    method = METHODS.get(train.method)(MethodContext(network(), MODEL, train))
    randomise(method.network)
    method.network.train()
    objective = OBJECTIVES.get("cross_entropy")(
        ObjectiveContext(train, (1, 8, 8), ("",) * 10, (0.0,), (1.0,))
    )
    precision = Precision(train)
    with Workers(method, 1, precision) as workers:
        workers.start_epoch()
        result = workers.backward(BATCH, objective, 0, 0)
    assert result.loss.dtype is torch.float32
    assert math.isfinite(result.loss)
    expected = torch.bfloat16 if train.precision == "bfloat16" else torch.float16
    assert result.outputs.dtype is (torch.float32 if train.precision == "float32" else expected)
    return {name: parameter.grad / precision.scale for name, parameter in method.network.named_parameters()}


@pytest.mark.parametrize("method", ["plain", "netaug"])
@pytest.mark.parametrize(("precision", "least"), [("bfloat16", 0.9), ("float16", 0.99)])
def test_gradients_are_those_of_float32_but_for_rounding(method, precision, least):
    exact = gradients(config(method=method))
    rounded = gradients(config(method=method, precision=precision))
    assert {gradient.dtype for gradient in rounded.values()} == {torch.float32}
    vectors = [torch.cat([gradient.flatten() for gradient in all_.values()]) for all_ in (exact, rounded)]
    assert torch.cosine_similarity(*vectors, dim=0) > least
    assert vectors[0].norm() == pytest.approx(float(vectors[1].norm()), rel=0.1)


def test_taking_gradients_within_the_region_changes_no_bit():
    train = config(precision="bfloat16", label_smoothing=0.0)
    plain = network()
    randomise(plain)
    plain.train()
    with torch.autocast("cpu", torch.bfloat16):
        logits = plain(BATCH.images)
    (nn.functional.cross_entropy(logits.float(), BATCH.labels, reduction="sum") / 16).backward()
    within = gradients(train)
    assert all(torch.equal(p.grad, within[name]) for name, p in plain.named_parameters())


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_the_loss_falls_and_the_saved_network_is_float32(tmp_path, precision):
    train = TrainConfig.model_validate(TRAIN.model_dump() | {"precision": precision, "epochs": 5})
    trainer.train(DATA, MODEL, train, tmp_path)
    with (tmp_path / "log.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert losses[-1] < 0.9 * losses[0]
    saved = load_file(tmp_path / "model.safetensors")
    assert {tensor.dtype for tensor in saved.values() if tensor.is_floating_point()} == {torch.float32}


def test_an_overflow_skips_the_step_and_halves_the_scale():
    train = config(precision="float16")
    layer = nn.Linear(2, 2)
    optimizer, precision = make_optimizer(layer, train), Precision(train)
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    scale = precision.scale
    for value, expected in ((math.inf, scale / 2), (scale / 2, scale / 2)):
        precision.scaled(lambda outputs, **_: outputs.sum(), precision.scale)(
            layer(torch.ones(1, 2))
        ).backward()
        layer.weight.grad.fill_(value)
        layer.bias.grad.fill_(value)
        precision.step(optimizer)
        assert precision.scale == expected
        moved = [name for name, tensor in layer.state_dict().items() if not torch.equal(tensor, before[name])]
        assert moved == ([] if math.isinf(value) else ["weight", "bias"])
        layer.zero_grad()
    torch.testing.assert_close(before["bias"] - layer.bias, torch.full((2,), 1.9 * train.learning_rate))
    other = Precision(train)
    other.restore(precision.state())
    assert other.state() == precision.state()
    assert Precision(config()).state() == {}
