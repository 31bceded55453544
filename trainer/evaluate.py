"""Accuracy of a network."""

from __future__ import annotations

import torch
from torch import nn

from trainer.data.dataset import Chunks, normalise


@torch.inference_mode()
def accuracy(
    network: nn.Module,
    samples: Chunks,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    *,
    device: str = "cpu",
) -> float:
    """Top-1 accuracy, 0..1, of a network in eval mode on images [N, H, W, C] with labels int64 [N]."""
    correct = total = 0
    for images, labels in samples:
        logits = network(normalise(torch.as_tensor(images, device=device), mean, std))
        correct += int((logits.argmax(1).cpu() == torch.as_tensor(labels)).sum())
        total += len(images)
    return correct / total
