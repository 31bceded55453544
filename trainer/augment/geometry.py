"""Operations that move pixels, each on a whole batch with a setting per image.

Images are uint8 [N, H, W, C]; a setting is a float64 tensor [N] on the CPU. What comes from outside is grey,
128, as in AutoAugment's code. Positions are computed in 16.16 fixed point, and the nearest pixel is taken:
all give, to the last bit, what Pillow's `Image.transform` gives, on every device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_FILL = 128
_FRACTION_BITS = 16


def shear_x(images: Tensor, factor: Tensor) -> Tensor:
    """The row y comes from `factor` * y pixels further right."""
    one, zero = torch.ones_like(factor), torch.zeros_like(factor)
    return affine(images, torch.stack([one, factor, zero, zero, one, zero], dim=1))


def shear_y(images: Tensor, factor: Tensor) -> Tensor:
    """The column x comes from `factor` * x pixels further down."""
    one, zero = torch.ones_like(factor), torch.zeros_like(factor)
    return affine(images, torch.stack([one, zero, zero, factor, one, zero], dim=1))


def translate_x(images: Tensor, pixels: Tensor) -> Tensor:
    """Every pixel comes from `pixels`, cut to an integer, further right."""
    one, zero = torch.ones_like(pixels), torch.zeros_like(pixels)
    return affine(images, torch.stack([one, zero, pixels.trunc(), zero, one, zero], dim=1))


def translate_y(images: Tensor, pixels: Tensor) -> Tensor:
    """Every pixel comes from `pixels`, cut to an integer, further down."""
    one, zero = torch.ones_like(pixels), torch.zeros_like(pixels)
    return affine(images, torch.stack([one, zero, zero, zero, one, pixels.trunc()], dim=1))


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Turn counter-clockwise about the centre."""
    height, width = images.shape[1:3]
    angle = degrees * (-math.pi / 180.0)
    cosine, sine = angle.cos(), angle.sin()
    x, y = width / 2.0, height / 2.0
    matrix = [
        cosine,
        sine,
        x - x * cosine - y * sine,
        -sine,
        cosine,
        y + x * sine - y * cosine,
    ]
    return affine(images, torch.stack(matrix, dim=1))


def affine(images: Tensor, matrices: Tensor) -> Tensor:
    """The pixel at (x, y) comes from (a x + b y + c, d x + e y + f), counted from the corner of the image.

    `matrices` are (a, b, c, d, e, f), float64 [N, 6].
    """
    count, height, width, channels = images.shape
    rows = torch.arange(height, device=images.device)[:, None]
    columns = torch.arange(width, device=images.device)[None, :]
    a, b, c, d, e, f = matrices.unbind(1)
    centred = torch.stack([a, b, c + a * 0.5 + b * 0.5, d, e, f + d * 0.5 + e * 0.5])
    fixed = (centred * (1 << _FRACTION_BITS) + 0.5).floor().long().to(images.device)
    a, b, c, d, e, f = fixed[:, :, None, None]
    x = (c + rows * b + columns * a) >> _FRACTION_BITS
    y = (f + rows * e + columns * d) >> _FRACTION_BITS
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)  # [N, H, W]
    source = torch.where(inside, y * width + x, 0).reshape(count, -1, 1).expand(-1, -1, channels)
    moved = images.reshape(count, -1, channels).gather(1, source).reshape(images.shape)
    return torch.where(inside[..., None], moved, _FILL)
