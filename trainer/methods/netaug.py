"""NetAug: the tiny network also learns as a part of wider networks.

Cai et al., Network Augmentation for Tiny Deep Learning, ICLR 2022.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from common.errors import ConfigError
from trainer.methods.base import MethodContext, StepResult
from trainer.methods.calibration import reestimate_batchnorm
from trainer.methods.elastic import ELASTIC_LAYERS, activate, draw, largest, slice_into, sort_hidden_channels
from trainer.models.initialise import initialise
from trainer.models.network import InvertedResidualNetwork, NetworkTable
from trainer.objectives import BatchLoss
from trainer.optim import Restart
from trainer.seeds import derive_seed


class NetAug:
    """Trains the largest network; each step sums the gradients of its tiny slice and of one drawn slice."""

    restarts: tuple[Restart, ...] = ()

    def __init__(self, context: MethodContext) -> None:
        plain = context.plain
        if not isinstance(plain, InvertedResidualNetwork):
            raise ConfigError(
                f"train.method netaug widens networks of inverted residual blocks; "
                f"model {context.model.name!r} is none: use method plain"
            )
        self._config = context.train.netaug
        self._seed = context.train.seed
        self._tiny = plain.table
        epochs = context.train.epochs
        random_epochs = self._config.random_epochs
        self._random_epochs = epochs - epochs * 75 // 155 if random_epochs is None else random_epochs
        self.calibration_images = self._config.calibration_images
        table = largest(plain.table, self._config.width, self._config.expand)
        self.network = InvertedResidualNetwork(table, ELASTIC_LAYERS)
        initialise(self.network, context.model.init, derive_seed(self._seed, "weights"))

    def start_epoch(self, epoch: int, optimizer: Optimizer) -> None:
        """Sort hidden channels by importance, in the epochs in which widths are drawn."""
        if self._config.sort and epoch < self._random_epochs:
            sort_hidden_channels(self.network, optimizer, momentum=self._config.sort_momentum)

    def augmented_table(self, epoch: int, step: int) -> NetworkTable:
        """The network drawn in a step, the same in every process; late epochs draw expansions alone."""
        width = self._config.width if epoch < self._random_epochs else (1.0,)
        return draw(self._tiny, width, self._config.expand, derive_seed(self._seed, "netaug", step))

    def backward(self, images: Tensor, loss: BatchLoss, epoch: int, step: int) -> StepResult:
        """Add the gradients of the tiny slice and, times alpha, of the drawn slice."""
        activate(self.network, self._tiny)
        logits = self.network(images)
        value = loss(logits)
        torch.autograd.backward(value)
        activate(self.network, self.augmented_table(epoch, step))
        torch.autograd.backward(self._config.alpha * loss(self.network(images), augmented=True))
        return StepResult(value.detach(), logits.detach())

    def tiny_network(self, batches: Iterable[Tensor]) -> nn.Module:
        """Copy the tiny slice into plain layers, with BatchNorm statistics of its own."""
        tiny = InvertedResidualNetwork(self._tiny)
        slice_into(tiny, self.network)
        tiny.to(self.network.classifier.weight.device)
        reestimate_batchnorm(tiny, batches)
        return tiny
