"""Initial weights."""

from __future__ import annotations

import math
from typing import Literal, Protocol, runtime_checkable

from torch import nn

from trainer.seeds import seeded

InitScheme = Literal["kaiming_uniform", "he_fan_out"]

_CONVOLUTIONS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


@runtime_checkable
class StartsBiased(Protocol):
    """A layer whose bias does not start at 0."""

    def reset_bias(self) -> None:
        """Set the bias."""


@runtime_checkable
class _Resets(Protocol):
    def reset_parameters(self) -> None: ...


def initialise(network: nn.Module, scheme: InitScheme, seed: int) -> None:
    """Draw all weights anew; biases start at 0 or where the layer wants them.

    "kaiming_uniform" is PyTorch's own (a = sqrt(5)), which NetAug uses; "he_fan_out" is He et al.'s normal
    (ICCV 2015). Linear weights come from a normal of std 0.02. Any other module starts as its own
    `reset_parameters` says, norms as the identity; parameters of modules without that stay as they are.
    """
    with seeded(seed):
        for module in network.modules():
            if isinstance(module, _CONVOLUTIONS):
                if scheme == "kaiming_uniform":
                    nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5))
                else:
                    fan_out = module.out_channels // module.groups * math.prod(module.kernel_size)
                    nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.02)
            elif isinstance(module, _Resets):
                module.reset_parameters()
            if isinstance(module, (*_CONVOLUTIONS, nn.Linear)) and module.bias is not None:
                nn.init.zeros_(module.bias)
            if isinstance(module, StartsBiased):
                module.reset_bias()
