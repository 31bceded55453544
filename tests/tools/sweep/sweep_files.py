"""Sweeps to test with: files, and run folders that look finished without any training."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common import files
from tools.runs import Manifest, StageRecord
from tools.sweep.folder import TrainingFolder
from tools.sweep.ledger import Entry, Ledger

BASE = """
[data]
name = "digits"
train_limit = 256
test_limit = 100

[model]
stem_channels = 8
stem_stride = 1
stages = [{ expand_ratio = 1, channels = 8, stride = 2 }, { expand_ratio = 2, channels = 8, stride = 2 }]
last_channels = 16

[train]
method = "plain"
epochs = 2
batch_size = 64
threads = 1
"""


def write_sweep(folder: Path, text: str) -> Path:
    """Write base.toml and a sweep that uses it."""
    (folder / "base.toml").write_text(BASE)
    path = folder / "sweep.toml"
    path.write_text(f'base = "base.toml"\n{text}')
    return path


def pretend(entry: Entry, accuracy: float, seconds: float = 10.0) -> None:
    """Leave in a run's folder what a training with this result leaves."""
    epochs = entry.config.train.epochs
    folder = TrainingFolder(entry.run.folder)
    folder.prepare(entry.config, entry.needs)
    files.write_bytes(folder.weights, f"weights of {entry.name} {accuracy}".encode())
    rows = [f"{n},{accuracy * n / epochs},{accuracy},{seconds / epochs}" for n in range(1, epochs + 1)]
    files.write_text(folder.history, "\n".join(["epoch,accuracy,train_accuracy,seconds", *rows, ""]))
    result: dict[str, Any] = {
        "accuracy": accuracy,
        "train_accuracy": accuracy + 0.01,
        "epochs": epochs,
        "seconds": seconds,
        "parameters": 1000,
        "macs": 50_000,
        "metric": "top-1",
    }
    record = StageRecord(
        key="",
        command="tinyboost train",
        finished=datetime.now(UTC),
        seconds=seconds,
        config=json.loads(entry.config.model_dump_json(include={"data", "model", "train"})),
        versions={},
        inputs={},
        outputs={"train/model.safetensors": files.sha256(folder.weights)},
        result=result,
    )
    manifest = Manifest(stages={"train": record})
    files.write_text(folder.run.manifest_file, manifest.model_dump_json(by_alias=True))


def pretend_all(ledger: Ledger, accuracies: dict[str, float]) -> Ledger:
    """Finish the runs of these names, in their order, and look anew."""
    for name, accuracy in accuracies.items():
        ledger = Ledger(ledger.plan)
        pretend(next(entry for entry in ledger.entries.values() if entry.name == name), accuracy)
    return Ledger(ledger.plan)
