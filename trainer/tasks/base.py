"""What a task is to the training loop."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from trainer.checkpoint import Architecture
from trainer.config import DataConfig
from trainer.data.batches import BatchSource
from trainer.objectives import Objective


class Task(Protocol):
    """Data, what a network shall do with it, and how well one does.

    `data` loads just this data again: where a fallback stepped in, it names that. `metric` names what `score`
    gives, for people.
    """

    metric: str

    @property
    def data(self) -> DataConfig:
        """The data that is used."""

    @property
    def batches(self) -> BatchSource:
        """Training batches."""

    @property
    def objective(self) -> Objective:
        """What is trained for."""

    def build(self) -> nn.Module:
        """The plain network, on the CPU, not initialised."""

    def architecture(self, network: nn.Module) -> Architecture:
        """The description of a plain network that is written beside its weights."""

    def hits(self, outputs: Tensor, labels: Tensor) -> Tensor | None:
        """How many samples of a training batch were answered right; None where that makes no sense."""

    def score(self, network: nn.Module) -> float:
        """How well a network in eval mode does on the test samples, 0..1, more is better."""

    def train_score(self, network: nn.Module) -> float:
        """The same on training samples, not varied, or a part of them."""
