"""Cross-entropy with label smoothing."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from trainer.data.batches import Batch
from trainer.objectives.base import BatchLoss, ObjectiveContext


class CrossEntropy:
    """Against labels int64 [N] or shares of classes float32 [N, classes], both smoothed."""

    def __init__(self, context: ObjectiveContext) -> None:
        self._smoothing = context.train.label_smoothing
        self._size = context.train.batch_size

    def start_epoch(self, epoch: int) -> None:
        """Every epoch is alike."""

    def for_part(self, batch: Batch) -> BatchLoss:
        """The same for all networks."""

        def loss(outputs: Tensor, *, augmented: bool = False) -> Tensor:  # noqa: ARG001
            entropy = functional.cross_entropy(
                outputs, batch.labels, label_smoothing=self._smoothing, reduction="sum"
            )
            return entropy / self._size

        return loss
