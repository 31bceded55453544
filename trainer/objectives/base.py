"""What an objective is to the training loop and to the methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from trainer.config import TrainConfig
from trainer.data.batches import Batch
from trainer.registry import Registry


class BatchLoss(Protocol):
    """The loss of one batch, or of a part of it, as a function of what a network gives for its images."""

    def __call__(self, outputs: Tensor, *, augmented: bool = False) -> Tensor:
        """A scalar, the part's share of the batch's loss; `augmented`: a wider network gave the outputs."""


class Objective(Protocol):
    """Makes the loss of each batch."""

    def start_epoch(self, epoch: int) -> None:
        """Told of every epoch, counted from 0, before its first batch; also of the first after a resume."""

    def for_part(self, batch: Batch) -> BatchLoss:
        """The loss of a batch or of a part of one: sums over its images, divided by the size of all.

        Threads call this at the same time. What depends on the images alone, like a teacher's answer, is
        computed here, once for all networks that learn from the part.
        """


@dataclass(frozen=True)
class ObjectiveContext:
    """What an objective is made from.

    `input_shape` is (C, H, W); `mean` and `std` per channel, of pixels scaled to 0..1, normalised the images.
    """

    train: TrainConfig
    input_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


OBJECTIVES: Registry[Callable[[ObjectiveContext], Objective]] = Registry("objective")
"""Objective name -> function of an ObjectiveContext."""
