"""The optimizer and its learning rate."""

from __future__ import annotations

import math

import torch
from torch import nn

from trainer.config import TrainConfig


def make_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.SGD:
    """SGD with Nesterov momentum; biases and norms, which are one-dimensional, do not decay."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(
        groups, lr=config.learning_rate, momentum=config.momentum, nesterov=True, fused=True
    )


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Rate of a step, counted from 0 over all epochs: linear warm-up to the peak, then cosine towards 0."""
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        start = config.warmup_learning_rate
        return start + (config.learning_rate - start) * (step + 1) / warmup
    progress = (step - warmup) / (config.epochs * steps_per_epoch - warmup)
    return config.learning_rate * (1 + math.cos(math.pi * progress)) / 2


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate
