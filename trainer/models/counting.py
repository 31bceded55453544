"""Counting parameters and multiply-accumulates."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from trainer.models.network import InputShape


@dataclass(frozen=True)
class Cost:
    """Size of a network: parameters, and MACs of convolutions and matrix products for one image."""

    parameters: int
    macs: int


def count(network: nn.Module, input_shape: InputShape) -> Cost:
    """Count parameters (BatchNorm's scale and shift included) and MACs for an image of (C, H, W)."""
    probe = copy.deepcopy(network).to("meta").eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        probe(torch.empty(1, *input_shape, device="meta"))
    return Cost(sum(p.numel() for p in network.parameters()), counter.get_total_flops() // 2)
