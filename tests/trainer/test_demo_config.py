from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from trainer.config import DataConfig, ModelConfig, TrainConfig
from trainer.data import load_dataset
from trainer.methods import METHODS, MethodContext
from trainer.models import build_network, count

DEMO = tomllib.loads((Path(__file__).resolve().parents[2] / "examples" / "demo.toml").read_text())


@pytest.fixture
def demo():
    sections = ((DataConfig, "data"), (ModelConfig, "model"), (TrainConfig, "train"))
    return tuple(section.model_validate(DEMO[name]) for section, name in sections)


def test_the_demo_network_is_tiny_and_can_be_trained_as_configured(demo):
    _, model, train = demo
    network = build_network(model, (1, 28, 28), 10)
    cost = count(network, (1, 28, 28))
    assert cost.parameters < 50_000
    assert 500_000 < cost.macs < 2_500_000
    method = METHODS.get(train.method)(MethodContext(network, model, train))
    assert count(method.network, (1, 28, 28)).macs > cost.macs


def test_the_demo_runs_without_fashion_mnist(demo, tmp_path):
    data = demo[0].model_copy(update={"path": tmp_path, "train_limit": 20, "test_limit": 20})
    dataset = load_dataset(data)
    assert dataset.config.name == "digits"
    assert dataset.input_shape == (1, 28, 28)
