"""The optimizer and its learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from trainer.config import TrainConfig


def make_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or Adam; biases and norms, which are one-dimensional, do not decay.

    `config.momentum` is Adam's first beta, the second is 0.999. Only what requires a gradient is optimized.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "adam":
        return torch.optim.Adam(groups, lr=config.learning_rate, betas=(config.momentum, 0.999), fused=True)
    sgd = torch.optim.SGD(
        groups, lr=config.learning_rate, momentum=config.momentum, nesterov=True, fused=True
    )
    # PyTorch's fused SGD makes no momentum where float16 overflows in the first step, nor for a parameter
    # whose first gradient comes later than others'. The step from 0 is the same.
    for parameter in parameters:
        sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter, requires_grad=False)
    return sgd


@dataclass(frozen=True)
class Restart:
    """Before `epoch`, counted from 0, the learning rate returns to this peak; a cosine follows at once."""

    epoch: int
    learning_rate: float


def learning_rate(
    config: TrainConfig, step: int, steps_per_epoch: int, restarts: Sequence[Restart] = ()
) -> float:
    """Rate of a step, counted from 0 over all epochs: linear warm-up to the peak, then cosine towards 0.

    Each of `restarts`, in the order of their epochs, ends a cosine and starts the next. With
    `config.drop_epochs`, the rate falls by steps in place of the cosine; those before a restart do not count.
    """
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        start = config.warmup_learning_rate
        return start + (config.learning_rate - start) * (step + 1) / warmup
    first, last, peak = warmup, config.epochs * steps_per_epoch, config.learning_rate
    for restart in restarts:
        if step < restart.epoch * steps_per_epoch:
            last = restart.epoch * steps_per_epoch
            break
        first, peak = restart.epoch * steps_per_epoch, restart.learning_rate
    if config.drop_epochs:
        drops = sum(first < epoch * steps_per_epoch <= step for epoch in config.drop_epochs)
        return peak * config.drop_factor**drops
    return peak * (1 + math.cos(math.pi * (step - first) / (last - first))) / 2


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate
