"""The training stage of a run runs again when what it learns from has changed."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tools import stages
from tools.config import RunConfig
from tools.runs import RunFolder
from tools.sweep.folder import TrainingFolder
from trainer import loop
from trainer.config import DataConfig, DistillationConfig, ModelConfig, StageConfig, TrainConfig
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


def test_a_training_under_other_settings_starts_anew_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = RunFolder(tmp_path / "run")
    config = RunConfig(
        data=DataConfig(name="digits", train_limit=64, test_limit=16),
        model=ModelConfig(
            name="mobilenet_v2",
            stem_channels=4,
            stages=(StageConfig(expand_ratio=1, channels=4),),
            last_channels=4,
        ),
        train=TrainConfig(epochs=1, warmup_epochs=0, batch_size=32, threads=1),
    )
    longer = config.model_copy(update={"train": config.train.model_copy(update={"epochs": 2})})
    with caplog.at_level(logging.INFO):
        stages.train_or_go_on(run, config)
    assert "resume" not in caplog.text  # where nothing was begun
    stages.train_or_go_on(run, longer)
    assert "was trained with train.epochs = 1, now it is 2" in caplog.text
    assert "--resume" not in caplog.text  # an option of `train`, not of `demo`
    assert TrainingFolder(run.path).result(longer, {}).epochs == 2
    caplog.clear()
    (run.training / "resume.safetensors").write_bytes(b"damaged")
    stages.train_or_go_on(run, config)
    assert "damaged" in caplog.text
    caplog.clear()
    stages.train_or_go_on(run, config)  # nothing to do
    assert "from the start" not in caplog.text
