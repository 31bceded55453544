"""Accuracy of a network."""

from __future__ import annotations

import torch
from torch import nn

from trainer.data.dataset import Images, Labels, normalise

_BATCH = 500


@torch.inference_mode()
def accuracy(
    network: nn.Module,
    images: Images,
    labels: Labels,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    *,
    device: str = "cpu",
) -> float:
    """Top-1 accuracy, 0..1, of a network in eval mode on images uint8 [N, H, W, C] with labels int64 [N]."""
    correct = 0
    for start in range(0, len(images), _BATCH):
        part = slice(start, start + _BATCH)
        logits = network(normalise(torch.as_tensor(images[part], device=device), mean, std))
        correct += int((logits.argmax(1).cpu() == torch.as_tensor(labels[part])).sum())
    return correct / len(images)
