"""Mixup and CutMix: images that are mixed of two, with the shares of both classes as their labels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def soft_labels(labels: Tensor, classes: int) -> Tensor:
    """Labels int64 [N] as shares of classes, float32 [N, classes]."""
    return functional.one_hot(labels, classes).float()


def mixup(images: Tensor, shares: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Blend each image with another one, and their shares of classes alike (Zhang et al., ICLR 2018).

    Images are float [N, C, H, W], shares float [N, classes]; the weight of each pair is from Beta(alpha,
    alpha). `generator` is a CPU generator.
    """
    partner, weight = _pairs(images, alpha, generator)
    weight = weight.to(images.dtype)
    return (
        torch.lerp(images[partner], images, weight[:, None, None, None]),
        torch.lerp(shares[partner], shares, weight[:, None].to(shares.dtype)),
    )


def cutmix(images: Tensor, shares: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Put a rectangle of another image into each (Yun et al., ICCV 2019).

    Its area is a share from Beta(alpha, alpha) of the image before it is cut at the borders, its centre
    anywhere; the shares of classes, float [N, classes], are weighted by the areas in pixels.
    """
    count, _, height, width = images.shape
    partner, weight = _pairs(images, alpha, generator)
    centres = torch.rand(2, count, generator=generator, dtype=torch.float64).to(images.device)
    side = (1.0 - weight).sqrt()
    rows = _inside(height, centres[0], side)  # [N, H]
    columns = _inside(width, centres[1], side)
    box = rows[:, None, :, None] & columns[:, None, None, :]
    area = rows.sum(1) * columns.sum(1)
    other = (area.double() / (height * width))[:, None].to(shares.dtype)
    return torch.where(box, images[partner], images), torch.lerp(shares, shares[partner], other)


def _pairs(images: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The partner of each image, int64 [N], and the image's weight against it, float64 [N]."""
    count = len(images)
    partner = torch.randperm(count, generator=generator)
    # torch's Beta takes no generator
    seed = int(torch.randint(2**62, (), generator=generator))
    weight = torch.from_numpy(np.random.default_rng(seed).beta(alpha, alpha, count))
    return partner.to(images.device), weight.to(images.device)


def _inside(length: int, centre: Tensor, side: Tensor) -> Tensor:
    """Which of `length` pixels lie in intervals, bool [N, length]; `centre` and `side` are shares of it."""
    middle, half = (centre * length).floor(), (side * length).floor() / 2
    pixels = torch.arange(length, device=centre.device)
    first, last = (middle - half).floor()[:, None], (middle + half).floor()[:, None]
    return (pixels >= first) & (pixels < last)
