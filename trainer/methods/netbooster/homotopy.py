"""Activations that turn into the identity: progressive linearization tuning (PLT)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class DecayingActivation(nn.Module):
    """y = slope * x + (1 - slope) * activation(x): the activation at slope 0, exactly the identity at 1.

    For ReLU this is max(slope * x, x), equation 2 of NetBooster. `slope` is a buffer: it is saved with the
    weights, and not learned.
    """

    slope: Tensor

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = copy.deepcopy(activation)
        if isinstance(self.activation, nn.ReLU | nn.Hardtanh | nn.Hardswish):  # ReLU6 is a Hardtanh
            self.activation.inplace = False  # the input is needed as well
        self.register_buffer("slope", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Float of any shape, which stays."""
        return torch.lerp(self.activation(x), x, self.slope)


def slope_at(step: int, decay_steps: int) -> float:
    """Slope in a step, counted from the first one of PLT: rises linearly and is 1.0 from `decay_steps` on."""
    if step < 0:
        return 0.0
    return step / decay_steps if step < decay_steps else 1.0


def set_slope(network: nn.Module, slope: float) -> None:
    """Set the slope of every decaying activation in `network`."""
    for module in network.modules():
        if isinstance(module, DecayingActivation):
            module.slope.fill_(slope)


def is_linear(network: nn.Module) -> bool:
    """Whether every decaying activation in `network` is the identity."""
    return all(
        module.slope.item() == 1.0 for module in network.modules() if isinstance(module, DecayingActivation)
    )
