"""The training stage of a run runs again when what it learns from has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import stages
from tools.config import RunConfig
from tools.runs import RunFolder
from tools.sweep.folder import TrainingFolder
from trainer import loop
from trainer.config import DistillationConfig, TrainConfig
from trainer.result import TrainResult


@pytest.mark.parametrize("key", ["initial", "teacher", "teachers"])
def test_another_network_to_start_or_learn_from_trains_anew(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Path] = []

    def train(_data: object, _model: object, _train: object, folder: Path, *, resume: bool) -> TrainResult:
        assert not resume
        trained.append(folder)
        for name in ("model.safetensors", "model.json"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(f"{len(trained)}")
        return TrainResult(
            accuracy=0.5, train_accuracy=0.5, epochs=1, seconds=1.0, parameters=1, macs=1, metric="top-1"
        )

    monkeypatch.setattr(loop, "train", train)
    monkeypatch.chdir(tmp_path)
    earlier = Path("earlier")
    earlier.mkdir()
    (earlier / "model.safetensors").write_bytes(b"first")
    config = {
        "initial": TrainConfig(initial=earlier),
        "teacher": TrainConfig(distillation=DistillationConfig(teacher=earlier)),
        "teachers": TrainConfig(distillation=DistillationConfig(teachers=(earlier,))),
    }[key]
    run = RunFolder(tmp_path / "run")
    for _ in range(2):
        stages.train(run, RunConfig(train=config))
    assert len(trained) == 1
    assert TrainingFolder(run.path).result(RunConfig(train=config), {}) is not None
    (earlier / "model.safetensors").write_bytes(b"second")
    assert TrainingFolder(run.path).result(RunConfig(train=config), {}) is None
    stages.train(run, RunConfig(train=config))
    assert len(trained) == 2
