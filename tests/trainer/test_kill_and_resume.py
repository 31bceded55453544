"""Killing the training process at any moment must not change the weights that a resumed one ends with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from safetensors.torch import load_file
from tiny_configs import DATA, LONG_TRAIN, MODEL

import trainer
from trainer.checkpoint import load_network

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys
from pathlib import Path
from tiny_configs import DATA, LONG_TRAIN, MODEL
import trainer
trainer.train(DATA, MODEL, LONG_TRAIN, Path(sys.argv[1]), resume=True)
"""


def start(folder: Path) -> subprocess.Popen[bytes]:
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder)], env=environment)


def rows(folder: Path) -> int:
    log = folder / "log.csv"
    return len(log.read_text().splitlines()) - 1 if log.exists() else 0


def test_a_killed_training_resumes_to_the_weights_of_an_uninterrupted_one(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for kill, epochs in enumerate((1, 3)):
        process = start(parts)
        deadline = time.monotonic() + 120
        while rows(parts) < epochs and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.03 * kill)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the training ended before it was killed"
        assert not (parts / "model.json").exists()

    trainer.train(DATA, MODEL, LONG_TRAIN, parts, resume=True)
    result = trainer.train(DATA, MODEL, LONG_TRAIN, whole)
    assert (parts / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    states = [load_file(folder / "resume.safetensors") for folder in (whole, parts)]
    assert states[0].keys() == states[1].keys()
    assert any(name.startswith("momentum.") for name in states[0])
    assert all(tensor.equal(states[1][name]) for name, tensor in states[0].items())
    assert rows(parts) == 6
    network, architecture = load_network(parts)
    assert sum(p.numel() for p in network.parameters()) == architecture.parameters == result.parameters
