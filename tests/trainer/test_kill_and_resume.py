"""Killing the training process at any moment must not change the weights that a resumed one ends with."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tiny_configs import DATA, LONG_TRAIN, MODEL
from training_processes import Fault, Job, Running

import trainer
from trainer.checkpoint import load_network
from trainer.config import TrainConfig

STEPS = 8  # of an epoch
NETAUG = LONG_TRAIN.model_dump() | {"epochs": 4}
BOOSTER = NETAUG | {
    "method": "netbooster",
    "warmup_epochs": 0,
    "workers": 1,
    "accumulate": 2,
    "ema": 0.9,
    "netbooster": {"giant_epochs": 1, "decay_epochs": 2},
}
CONFIGS = {
    "netaug_average": NETAUG | {"ema": 0.9},
    "netbooster_average_bfloat16": BOOSTER | {"precision": "bfloat16"},
    "plain_adam_float16": NETAUG
    | {"method": "plain", "optimizer": "adam", "learning_rate": 0.01, "precision": "float16"},
}


def rows(folder: Path) -> int:
    log = folder / "log.csv"
    return len(log.read_text().splitlines()) - 1 if log.exists() else 0


def assert_same_end(whole: Path, parts: Path) -> None:
    assert (parts / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    states = [load_file(folder / "resume.safetensors") for folder in (whole, parts)]
    assert states[0].keys() == states[1].keys()
    assert all(tensor.equal(states[1][name]) for name, tensor in states[0].items())
    assert rows(parts) == rows(whole)
    assert not list(parts.glob(".*")), "what the killed processes left is cleared away"


@pytest.mark.parametrize("name", CONFIGS)
def test_a_killed_training_resumes_to_the_weights_of_an_uninterrupted_one(tmp_path, name):
    train = TrainConfig.model_validate(CONFIGS[name])
    generator = random.Random(name)
    first, second = sorted(generator.sample(range(STEPS, 4 * STEPS), 2))
    faults = [Fault("kill", first), Fault("kill_saving", first // STEPS + 1), Fault("kill", second)]
    for index, fault in enumerate(faults):
        job = Job(tmp_path, train, resume=True, fault=fault)
        assert Running([job], tmp_path / f"errors.{index}").wait().code == -9
        assert not (tmp_path / "0" / "model.json").exists()
    parts, whole = tmp_path / "0", tmp_path / "whole"
    trainer.train(DATA, MODEL, train, parts, resume=True)
    result = trainer.train(DATA, MODEL, train, whole)
    assert_same_end(whole, parts)
    network, architecture = load_network(parts)
    assert sum(p.numel() for p in network.parameters()) == architecture.parameters == result.parameters


def test_a_kill_at_any_moment_by_the_clock(tmp_path):
    generator = random.Random(0)
    for epochs in (1, 3):
        running = Running([Job(tmp_path, LONG_TRAIN, resume=True)], tmp_path / "errors")
        deadline = time.monotonic() + 120
        while rows(tmp_path / "0") < epochs and running.process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(generator.uniform(0, 0.1))
        running.process.kill()
        assert running.wait().code == -9, "the training ended before it was killed"
    trainer.train(DATA, MODEL, LONG_TRAIN, tmp_path / "0", resume=True)
    trainer.train(DATA, MODEL, LONG_TRAIN, tmp_path / "whole")
    assert_same_end(tmp_path / "whole", tmp_path / "0")
