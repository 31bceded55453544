"""Classification of images."""

from __future__ import annotations

from torch import Tensor, nn

from trainer.config import DataConfig, ModelConfig, TrainConfig
from trainer.data import load_dataset
from trainer.data.dataset import Chunks
from trainer.evaluate import accuracy
from trainer.objectives import OBJECTIVES, Objective, ObjectiveContext
from trainer.tasks.dataset_task import DatasetTask

_TRAIN_SAMPLES = 10_000


class Classification(DatasetTask):
    """Top-1 accuracy on all test images and on up to 10,000 training images."""

    metric = "top-1"

    def __init__(
        self, data: DataConfig, model: ModelConfig, train: TrainConfig, rank: int = 0, ranks: int = 1
    ) -> None:
        make_objective = OBJECTIVES.get(train.objective)
        self._device = train.device
        self._dataset = dataset = load_dataset(data)
        super().__init__(dataset, model, train, rank, ranks)
        self.objective: Objective = make_objective(
            ObjectiveContext(train, dataset.input_shape, dataset.class_names, dataset.mean, dataset.std)
        )

    def hits(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Count where the largest of logits [N, classes] is the label, of mixed images the largest share."""
        right = labels if labels.ndim == 1 else labels.argmax(1)
        return (outputs.argmax(1) == right).sum()

    def score(self, network: nn.Module) -> float:
        """Top-1 accuracy on the test images."""
        return self._accuracy(network, self._dataset.test())

    def train_score(self, network: nn.Module) -> float:
        """Top-1 accuracy on training images."""
        return self._accuracy(network, self._dataset.train(_TRAIN_SAMPLES))

    def _accuracy(self, network: nn.Module, samples: Chunks) -> float:
        return accuracy(network, samples, self._dataset.mean, self._dataset.std, device=self._device)
