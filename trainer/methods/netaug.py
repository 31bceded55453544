"""NetAug: the tiny network also learns as a part of wider networks.

Cai et al., Network Augmentation for Tiny Deep Learning, ICLR 2022.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainer.methods.base import MethodContext, StepResult
from trainer.methods.calibration import reestimate_batchnorm
from trainer.methods.elastic import slice_from
from trainer.methods.elastic_family import Family, make_family
from trainer.methods.initial import start_plain
from trainer.models.initialise import initialise
from trainer.objectives import BatchLoss
from trainer.optim import Restart
from trainer.seeds import derive_seed


class NetAug:
    """Trains the largest network; each step sums the gradients of its tiny slice and of one drawn slice.

    As a part of another method it trains in `epochs` alone, `family` replaces that of the plain network, and
    `trained` says that `set_tiny` will put trained weights into the tiny slice. With those, or with
    `train.initial`, hidden channels are not sorted, unless the configuration says so.
    """

    restarts: tuple[Restart, ...] = ()
    phase = ""

    def __init__(
        self,
        context: MethodContext,
        *,
        epochs: range | None = None,
        family: Family[Any] | None = None,
        trained: bool = False,
    ) -> None:
        self._config = context.train.netaug
        self._seed = context.train.seed
        initial = epochs is None and start_plain(context)
        span = epochs or range(context.train.epochs)
        self.calibration_images = self._config.calibration_images
        self._sort = not (initial or trained) if self._config.sort is None else self._config.sort
        self.family = family or make_family(context.plain, self._config.width, self._config.expand)
        self._random_end = span.start + self._random_epochs(len(span))
        initialise(self.network, context.model.init, derive_seed(self._seed, "weights"))
        if initial:
            self.set_tiny(context.plain)

    @property
    def network(self) -> nn.Module:
        """The largest network."""
        return self.family.network

    def set_tiny(self, tiny: nn.Module) -> None:
        """Copy a network of the plain architecture into the first channels of every layer."""
        slice_from(self.network, tiny)

    def start_epoch(self, epoch: int, optimizer: Optimizer) -> None:
        """Sort hidden channels by importance, in the epochs in which widths are drawn."""
        if self._sort and epoch < self._random_end:
            self.family.sort_hidden(optimizer, momentum=self._config.sort_momentum)

    def drawn(self, epoch: int, step: int) -> Any:
        """The member drawn in a step, the same in every process; late epochs draw expansions alone."""
        width = self._config.width if epoch < self._random_end else (1.0,)
        return self.family.draw(width, self._config.expand, derive_seed(self._seed, "netaug", step))

    def backward(self, images: Tensor, loss: BatchLoss, epoch: int, step: int) -> StepResult:
        """Add the gradients of the tiny slice and, times alpha, of the drawn slice."""
        self.family.activate(self.family.tiny)
        logits = self.network(images)
        value = loss(logits)
        torch.autograd.backward(value)
        self.family.activate(self.drawn(epoch, step))
        torch.autograd.backward(self._config.alpha * loss(self.network(images), augmented=True))
        return StepResult(value.detach(), logits.detach())

    def _random_epochs(self, epochs: int) -> int:
        """In how many epochs widths are drawn; by default in all, where expansions would change nothing."""
        if self._config.random_epochs is not None:
            return self._config.random_epochs
        expanded = self.family.draw((1.0,), (max(self._config.expand),), seed=0)
        return epochs if expanded == self.family.tiny else epochs - epochs * 75 // 155

    def tiny_network(self, batches: Iterable[Tensor]) -> nn.Module:
        """Copy the tiny slice into plain layers, with BatchNorm statistics of its own."""
        tiny = self.family.tiny_network()
        reestimate_batchnorm(tiny, batches)
        return tiny
