"""Boxes: conversions and overlaps. All are float tensors [..., 4]."""

from __future__ import annotations

import torch
from torch import Tensor


def to_corners(boxes: Tensor) -> Tensor:
    """(centre x, centre y, width, height) to (left, top, right, bottom)."""
    centres, sizes = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centres - sizes / 2, centres + sizes / 2], dim=-1)


def to_centres(boxes: Tensor) -> Tensor:
    """(left, top, right, bottom) to (centre x, centre y, width, height)."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def area(boxes: Tensor) -> Tensor:
    """Areas [...] of boxes given by corners; 0 where a side is negative."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=-1)


def overlaps(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of every pair: corners [A, 4] and [B, 4] to [A, B]; 0 for two empty boxes."""
    low = torch.maximum(first[:, None, :2], second[None, :, :2])
    high = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(dim=-1)
    union = area(first)[:, None] + area(second)[None] - shared
    return shared / union.clamp(min=torch.finfo(shared.dtype).tiny)


def shape_overlaps(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of boxes with a common centre: sizes [..., 2] and [B, 2] to [..., B]."""
    shared = torch.minimum(first[..., None, :], second).prod(dim=-1)
    return shared / (first.prod(dim=-1)[..., None] + second.prod(dim=-1) - shared)
