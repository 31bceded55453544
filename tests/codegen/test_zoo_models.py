"""The published networks that the trainer offers, whole: every block, at a small resolution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from codegen.zoo_models import whole_network
from oracle import assert_bit_exact, interpreter, random_inputs, reference

from converter.tflite_reader import parse_graph
from trainer.config import ModelConfig

NETWORKS = {
    "mcunet": ModelConfig(name="mcunet"),
    "mobilenet_v2": ModelConfig(name="mobilenet_v2", width_multiplier=0.35),
    "mobilenet_v3_large": ModelConfig(name="mobilenet_v3_large", width_multiplier=0.35, head_channels=64),
    "proxyless_mobile": ModelConfig(name="proxyless_mobile", width_multiplier=0.35),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_whole_networks_are_bit_exact(name: str, tmp_path: Path) -> None:
    data = whole_network(NETWORKS[name], side=48)
    graph, oracle = parse_graph(data, name), interpreter(data)
    rng = np.random.default_rng(3)
    answers = np.array([reference(oracle, random_inputs(graph, rng))[0] for _ in range(4)], dtype=np.int64)
    assert np.ptp(answers, axis=0).mean() > 8, "the inputs hardly matter"
    assert_bit_exact(data, tmp_path, rounds=10, seed=5)
    assert "conv2d_plain" not in (tmp_path / "model.cc").read_text()


# The others consist of the same kernels.
@pytest.mark.parametrize("name", ["mcunet", "mobilenet_v3_large"])
def test_whole_networks_are_free_of_undefined_behaviour(name: str, tmp_path: Path) -> None:
    data = whole_network(NETWORKS[name], side=32, seed=1)
    assert_bit_exact(data, tmp_path, rounds=2, seed=6, sanitized=True)
