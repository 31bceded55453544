"""Tasks: data, a network for it, and how well the network does."""

from __future__ import annotations

from common.errors import ConfigError
from trainer.config import DataConfig, ModelConfig, TrainConfig
from trainer.tasks.base import Task

__all__ = ["Task", "make_task"]


def make_task(
    data: DataConfig, model: ModelConfig, train: TrainConfig, rank: int = 0, ranks: int = 1
) -> Task:
    """The task of a configuration, its data loaded; raises ConfigError for what is wrong in it.

    Of several processes, each gets its own equal part of every batch.
    """
    if model.detector is not None:
        from trainer.tasks.detection import Detection

        return Detection(data, model, train, rank, ranks)
    from trainer.detection import DETECTION_DATASETS

    if data.name in DETECTION_DATASETS.names():
        raise ConfigError(f"dataset {data.name!r} has boxes: give the network a [model.detector]")
    from trainer.tasks.classification import Classification

    return Classification(data, model, train, rank, ranks)
