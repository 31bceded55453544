"""Trainings that are interrupted at a given step."""

from __future__ import annotations

from pathlib import Path

import pytest

import trainer
from trainer.config import DataConfig, ModelConfig, TrainConfig
from trainer.seeds import derive_seed


def train_until(  # noqa: PLR0917 - what is trained comes as in trainer.train
    stop: int,
    monkeypatch: pytest.MonkeyPatch,
    data: DataConfig,
    model: ModelConfig,
    train: TrainConfig,
    folder: Path,
) -> None:
    """Train, and be interrupted before step `stop`, counted from 0 over all epochs."""

    def interrupt(seed: int, purpose: str, *indices: int) -> int:
        if (purpose, *indices[:1]) == ("step", stop):
            raise KeyboardInterrupt
        return derive_seed(seed, purpose, *indices)

    with monkeypatch.context() as patch:
        patch.setattr("trainer.loop.derive_seed", interrupt)
        with pytest.raises(KeyboardInterrupt):
            trainer.train(data, model, train, folder)
