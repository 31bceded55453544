"""Random crops and mirroring, each on a whole batch uint8 [N, H, W, C]. Generators are CPU generators."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

_ATTEMPTS = 10
_NARROWEST = 3 / 4
_WIDEST = 4 / 3


def shift_and_mirror(images: Tensor, padding: int, mirror: bool, generator: torch.Generator) -> Tensor:
    """Crop at random after padding all sides with `padding` black pixels, and mirror half of the images.

    Shape, dtype and device stay; 0 and False leave the images as they are.
    """
    count, height, width, _ = images.shape
    if not padding and not mirror:
        return images
    offsets = torch.randint(0, 2 * padding + 1, (2, count), generator=generator).to(images.device)
    mirrored = (torch.rand(count, generator=generator) < (0.5 if mirror else 0.0)).to(images.device)
    padded = functional.pad(images, (0, 0, padding, padding, padding, padding))
    windows = padded.unfold(1, height, 1).unfold(2, width, 1)  # [N, offset y, offset x, C, H, W], a view
    crops = windows[torch.arange(count, device=images.device), offsets[0], offsets[1]].permute(0, 2, 3, 1)
    return torch.where(mirrored[:, None, None, None], crops.flip(2), crops)


def resized_crops(images: Tensor, least_area: float, generator: torch.Generator) -> Tensor:
    """Resize random parts of the images, see `crop_boxes`, to the whole, bilinearly."""
    count, height, width, _ = images.shape
    sizes = torch.tensor([[height, width]], dtype=torch.float64).expand(count, 2)
    boxes = crop_boxes(sizes, least_area, crop_draws(count, generator))
    left, top, right, bottom = (boxes / torch.tensor([width, height, width, height])).float().unbind(1)
    matrices = torch.zeros(count, 2, 3)
    matrices[:, 0, 0], matrices[:, 0, 2] = right - left, right + left - 1
    matrices[:, 1, 1], matrices[:, 1, 2] = bottom - top, bottom + top - 1
    values = images.permute(0, 3, 1, 2).float()
    grid = functional.affine_grid(matrices.to(images.device), list(values.shape), align_corners=False)
    resized = functional.grid_sample(values, grid, padding_mode="border", align_corners=False)
    return resized.round().to(torch.uint8).permute(0, 2, 3, 1)


def crop_draws(count: int, generator: torch.Generator) -> Tensor:
    """The random numbers behind the boxes of `count` images, float64 [count, 22]."""
    return torch.rand(count, 2 * _ATTEMPTS + 2, generator=generator, dtype=torch.float64)


def crop_boxes(sizes: Tensor, least_area: float, draws: Tensor) -> Tensor:
    """Parts (left, top, right, bottom) of images, float64 [N, 4], of `sizes` (height, width), float64 [N, 2].

    Areas are uniform between `least_area` and all of the image, the logarithm of width / height between 3/4
    and 4/3 (Szegedy et al., CVPR 2015); where ten draws fit none into the image, the largest part in its
    middle with such a shape is taken.
    """
    height, width = sizes[:, :1], sizes[:, 1:]
    share = least_area + (1 - least_area) * draws[:, :_ATTEMPTS]
    low, high = math.log(_NARROWEST), math.log(_WIDEST)
    shape = (low + (high - low) * draws[:, _ATTEMPTS : 2 * _ATTEMPTS]).exp()
    widths = (share * height * width * shape).sqrt()
    heights = (share * height * width / shape).sqrt()
    fits = (widths <= width) & (heights <= height)
    widest = torch.minimum(width, height * _WIDEST)
    highest = torch.minimum(height, width / _NARROWEST)
    first = fits.int().argmax(1, keepdim=True)
    some = fits.any(1, keepdim=True)
    box_width = torch.where(some, widths.gather(1, first), widest)
    box_height = torch.where(some, heights.gather(1, first), highest)
    place = torch.where(some, draws[:, -2:], 0.5)
    left = place[:, :1] * (width - box_width)
    top = place[:, 1:] * (height - box_height)
    return torch.cat([left, top, left + box_width, top + box_height], dim=1)
