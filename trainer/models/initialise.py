"""Initial weights."""

from __future__ import annotations

import math
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import nn

InitScheme = Literal["kaiming_uniform", "he_fan_out"]


@runtime_checkable
class StartsBiased(Protocol):
    """A layer whose bias does not start at 0."""

    def reset_bias(self) -> None:
        """Set the bias."""


def initialise(network: nn.Module, scheme: InitScheme, seed: int) -> None:
    """Draw all weights anew; norms start as the identity, biases at 0 or where the layer wants them.

    "kaiming_uniform" is PyTorch's own (a = sqrt(5)), which NetAug uses; "he_fan_out" is He et al.'s normal
    (ICCV 2015). Linear weights, and tokens of a transformer, come from a normal of std 0.02.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            if scheme == "kaiming_uniform":
                nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
            else:
                fan_out = module.out_channels // module.groups * math.prod(module.kernel_size)
                nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out), generator=generator)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.02, generator=generator)
        elif isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            module.reset_parameters()
        else:
            for parameter in module.parameters(recurse=False):
                nn.init.normal_(parameter, 0.0, 0.02, generator=generator)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, StartsBiased):
            module.reset_bias()
