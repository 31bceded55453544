"""Random crops and mirroring, each on a whole batch uint8 [N, H, W, C]. Generators are CPU generators."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

Numbers = npt.NDArray[np.float64]

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
    sizes = np.broadcast_to(np.array([height, width], np.float64), (count, 2))
    boxes = crop_boxes(sizes, least_area, crop_draws(count, generator)) / [width, height, width, height]
    left, top, right, bottom = torch.from_numpy(boxes).float().unbind(1)
    matrices = torch.zeros(count, 2, 3)
    matrices[:, 0, 0], matrices[:, 0, 2] = right - left, right + left - 1
    matrices[:, 1, 1], matrices[:, 1, 2] = bottom - top, bottom + top - 1
    values = images.permute(0, 3, 1, 2).float()
    grid = functional.affine_grid(matrices.to(images.device), list(values.shape), align_corners=False)
    resized = functional.grid_sample(values, grid, padding_mode="border", align_corners=False)
    return resized.round().to(torch.uint8).permute(0, 2, 3, 1)


def crop_draws(count: int, generator: torch.Generator) -> Numbers:
    """The random numbers behind the boxes of `count` images, float64 [count, 22]."""
    draws = torch.rand(count, 2 * _ATTEMPTS + 2, generator=generator, dtype=torch.float64)
    return np.asarray(draws.numpy())


def crop_boxes(sizes: Numbers, least_area: float, draws: Numbers) -> Numbers:
    """Parts (left, top, right, bottom) of images, float64 [N, 4], of `sizes` (height, width), float64 [N, 2].

    Areas are uniform between `least_area` and all of the image, the logarithm of width / height between 3/4
    and 4/3 (Szegedy et al., CVPR 2015); where ten draws fit none into the image, the largest part in its
    middle with such a shape is taken.
    """
    height, width = sizes[:, :1], sizes[:, 1:]
    area = (least_area + (1 - least_area) * draws[:, :_ATTEMPTS]) * (height * width)
    low, high = math.log(_NARROWEST), math.log(_WIDEST)
    shape = np.exp(low + (high - low) * draws[:, _ATTEMPTS : 2 * _ATTEMPTS])
    widths, heights = np.sqrt(area * shape), np.sqrt(area / shape)
    fits = (widths <= width) & (heights <= height)
    row, first = np.arange(len(sizes)), fits.argmax(1)
    some = fits[row, first]
    box_width = np.where(some, widths[row, first], np.minimum(width, height * _WIDEST)[:, 0])
    box_height = np.where(some, heights[row, first], np.minimum(height, width / _NARROWEST)[:, 0])
    left = np.where(some, draws[:, -2], 0.5) * (width[:, 0] - box_width)
    top = np.where(some, draws[:, -1], 0.5) * (height[:, 0] - box_height)
    return np.stack([left, top, left + box_width, top + box_height], axis=1)
