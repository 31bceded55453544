"""What all tasks have in common whose samples are a dataset."""

from __future__ import annotations

from torch import nn

from trainer.checkpoint import Architecture
from trainer.config import DataConfig, ModelConfig, TrainConfig
from trainer.data import Dataset
from trainer.data.batches import BatchSource
from trainer.models import build_network, count


class DatasetTask:
    """A network of the zoo for the samples and classes of a dataset."""

    def __init__(
        self, dataset: Dataset, model: ModelConfig, train: TrainConfig, rank: int, ranks: int
    ) -> None:
        self._described = dataset
        self._model = model
        self.data: DataConfig = dataset.config
        self.batches: BatchSource = dataset.batches(train, rank, ranks)

    def build(self) -> nn.Module:
        """The network of the configuration."""
        return build_network(self._model, self._described.input_shape, len(self._described.class_names))

    def architecture(self, network: nn.Module) -> Architecture:
        """With parameters and MACs counted."""
        dataset = self._described
        cost = count(network, dataset.input_shape)
        return Architecture(
            model=self._model,
            data=dataset.config,
            dataset=dataset.config.name,
            class_names=dataset.class_names,
            input_shape=dataset.input_shape,
            mean=dataset.mean,
            std=dataset.std,
            parameters=cost.parameters,
            macs=cost.macs,
        )
