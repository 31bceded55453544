"""Automatic mixed precision: matrix products and convolutions in 16 bits, weights in 32."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from trainer.config import TrainConfig
from trainer.objectives import BatchLoss

_TYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Precision:
    """How a step computes: in `train.precision`, with losses in float32.

    float16 has a narrow range: losses are multiplied by a scale before their gradients are taken; gradients
    are divided by it before the step, which is left out where they overflowed, and the scale is lowered.
    """

    def __init__(self, config: TrainConfig) -> None:
        self._device = torch.device(config.device).type
        self._type = _TYPES[config.precision]
        self._scaler = torch.amp.GradScaler(self._device, enabled=self._type is torch.float16)
        self._scaler.scale(torch.zeros((), device=config.device))  # makes its state

    def region(self) -> AbstractContextManager[Any]:
        """Within, in the same thread, networks compute in the wanted precision."""
        return torch.autocast(self._device, self._type, enabled=self._type is not None)

    @property
    def scale(self) -> float:
        """By how much losses and gradients are too large now."""
        return self._scaler.get_scale()

    def scaled(self, loss: BatchLoss, scale: float) -> BatchLoss:
        """`loss` of outputs in any precision, computed in float32, times `scale`."""
        if self._type is None:
            return loss

        def scaled_loss(outputs: Tensor, *, augmented: bool = False) -> Tensor:
            with torch.autocast(self._device, enabled=False):
                return loss(outputs.float(), augmented=augmented) * scale

        return scaled_loss

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Let the optimizer make its step with gradients of scaled losses."""
        self._scaler.step(optimizer)
        self._scaler.update()

    def state(self) -> dict[str, float]:
        """What a checkpoint has to keep."""
        return dict(self._scaler.state_dict())

    def restore(self, state: dict[str, float]) -> None:
        """Go on from what `state` gave."""
        if state:
            self._scaler.load_state_dict(state)
