"""Counting parameters and multiply-accumulates."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer.models.network import InputShape


@dataclass(frozen=True)
class Cost:
    """Size of a network: trainable parameters, and MACs of convolutions and linear layers for one image."""

    parameters: int
    macs: int


def count(network: nn.Module, input_shape: InputShape) -> Cost:
    """Count parameters (BatchNorm's scale and shift included) and MACs for an image of (C, H, W)."""
    macs = 0

    def add(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        weight = module.weight
        assert isinstance(weight, Tensor)
        positions = math.prod(output.shape[2:])
        macs += positions * weight.numel()

    probe = copy.deepcopy(network).to("meta").eval()
    for module in probe.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(add)
    with torch.inference_mode():
        probe(torch.empty(1, *input_shape, device="meta"))
    return Cost(sum(p.numel() for p in network.parameters()), macs)
