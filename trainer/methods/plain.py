"""Plain training: the tiny network alone."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainer.methods.base import MethodContext, StepResult
from trainer.methods.initial import start_plain
from trainer.objectives import BatchLoss
from trainer.optim import Restart


class Plain:
    """Trains the plain network as it is."""

    calibration_images = 0
    restarts: tuple[Restart, ...] = ()
    phase = ""

    def __init__(self, context: MethodContext) -> None:
        start_plain(context)
        self.network: nn.Module = context.plain

    def start_epoch(self, epoch: int, optimizer: Optimizer) -> None:
        """Nothing changes between epochs."""

    def backward(self, images: Tensor, loss: BatchLoss, epoch: int, step: int) -> StepResult:  # noqa: ARG002
        """Add the gradients of one batch."""
        logits = self.network(images)
        value = loss(logits)
        torch.autograd.backward(value)
        return StepResult(value.detach(), logits.detach())

    def tiny_network(self, batches: Iterable[Tensor]) -> nn.Module:  # noqa: ARG002
        """Give a copy of the network in eval mode."""
        return copy.deepcopy(self.network).eval()
