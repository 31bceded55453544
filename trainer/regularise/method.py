"""A training method whose network drops values while it trains."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from common.errors import ConfigError
from trainer.methods.base import Method, MethodContext, StepResult
from trainer.objectives import BatchLoss
from trainer.optim import Restart
from trainer.regularise.dropping import Draws
from trainer.regularise.hooks import attach, detach, dropouts
from trainer.seeds import derive_seed


def regularise(method: Method, context: MethodContext) -> Method:
    """Let `method` drop what the configuration wants; the method itself where that is nothing.

    Where threads share a step, dropout layers of the network itself draw from generators of their own too.
    Raises ConfigError where its network has no place for it, or is to be compiled.
    """
    config, workers = context.train.regularisation, context.train.workers
    if not config.dropout and not config.dropblock and (workers == 1 or not dropouts(method.network)):
        return method
    if context.train.compile:
        raise ConfigError(
            "train.compile takes networks that drop nothing, or train.workers 1 and no train.regularisation: "
            "set it to false"
        )
    return Regularised(method, context)


class Regularised:
    """Any method; its network drops values in training mode, as `trainer.regularise.hooks` says.

    What is dropped depends on the seed of torch's global generator, which the loop sets before each step,
    and, if threads share the step, on the thread's part: copies of this method are counted. The networks
    that `tiny_network` gives drop nothing.
    """

    def __init__(self, method: Method, context: MethodContext) -> None:
        self._method = method
        self._config = context.train.regularisation
        epochs = context.train.epochs
        ramp = epochs if self._config.dropblock_epochs is None else self._config.dropblock_epochs
        self._ramp = ramp * context.steps_per_epoch
        self._draws = Draws()
        self._step: int | None = None
        self._part = 0
        self._copies = 0
        attach(self.network, self._config, self._draws)

    def __deepcopy__(self, memo: dict[int, Any]) -> Regularised:
        self._copies += 1
        copied = object.__new__(Regularised)
        memo[id(self)] = copied
        copied.__dict__ = copy.deepcopy(self.__dict__, memo)
        copied._part = self._copies
        return copied

    @property
    def network(self) -> nn.Module:
        """The method's."""
        return self._method.network

    @property
    def calibration_images(self) -> int:
        """The method's."""
        return self._method.calibration_images

    @property
    def restarts(self) -> tuple[Restart, ...]:
        """The method's."""
        return self._method.restarts

    @property
    def phase(self) -> str:
        """The method's."""
        return self._method.phase

    def start_epoch(self, epoch: int, optimizer: Optimizer) -> None:
        """Attach anew, as the method may change its network."""
        self._copies, self._step = 0, None
        self._method.start_epoch(epoch, optimizer)
        attach(self.network, self._config, self._draws)

    def backward(self, images: Tensor, loss: BatchLoss, epoch: int, step: int) -> StepResult:
        """Add the gradients of images, float [N, C, H, W], with values dropped."""
        if step != self._step:  # otherwise, a further piece of the same step
            self._step = step
            self._draws.restart(derive_seed(torch.initial_seed(), "part", self._part))
        self._draws.rise = min(1.0, step / self._ramp) if self._ramp else 1.0
        return self._method.backward(images, loss, epoch, step)

    def tiny_network(self, batches: Iterable[Tensor]) -> nn.Module:
        """The method's, without hooks."""
        tiny = self._method.tiny_network(batches)
        detach(tiny)
        return tiny
