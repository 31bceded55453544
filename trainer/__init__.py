"""Training: model zoo, methods, data, the loop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.config import DataConfig, ModelConfig, TrainConfig
    from trainer.result import TrainResult


def train(
    data: DataConfig,
    model: ModelConfig,
    train: TrainConfig,
    folder: Path,
    *,
    resume: bool = False,
    show_progress: bool | None = None,
) -> TrainResult:
    """Train a tiny network into `folder`: `trainer.loop.train`, which, as torch, is only imported now."""
    from trainer.loop import train as run

    return run(data, model, train, folder, resume=resume, show_progress=show_progress)
