"""Operations on the values of pixels, each on a whole batch with a setting per image.

Images are uint8 [N, H, W, C] with 1 or 3 channels; a setting is a tensor [N] on any device. All give, to the
last bit, what Pillow's ImageOps and ImageEnhance give for each image.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LEVELS = 256
_LUMA = (19595, 38470, 7471)  # 65536 times 0.299, 0.587 and 0.114


def invert(images: Tensor) -> Tensor:
    """255 - value."""
    return 255 - images


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the upper `bits`, int64 [N] of 1..8, of every value."""
    mask = 256 - (1 << (8 - bits))
    return images & _per_image(mask, images).to(torch.uint8)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert all values that are `threshold` or more; threshold 256 changes nothing."""
    return torch.where(images >= _per_image(threshold, images), 255 - images, images)


def autocontrast(images: Tensor) -> Tensor:
    """Stretch each channel so that its darkest value is 0 and its brightest 255."""
    low = images.amin(dim=(1, 2))[..., None].double()  # [N, C, 1]
    high = images.amax(dim=(1, 2))[..., None].double()
    values = torch.arange(_LEVELS, device=images.device, dtype=torch.float64)
    flat = high <= low
    scale = torch.full_like(low, 255.0) / torch.where(flat, 1.0, high - low)  # 255.0 / x is 255 * (1 / x)
    stretched = (values * scale + -low * scale).clamp(0, 255)
    return _look_up(images, torch.where(flat, values, stretched))


def equalize(images: Tensor) -> Tensor:
    """Make the histogram of each channel as even as a function of the value can."""
    count, height, width, channels = images.shape
    rows = torch.arange(count * channels, device=images.device).reshape(count, 1, 1, channels)
    cells = (images + rows * _LEVELS).flatten()
    histogram = torch.bincount(cells, minlength=count * channels * _LEVELS)
    histogram = histogram.reshape(count, channels, _LEVELS)
    brightest = images.amax(dim=(1, 2))[..., None].long()
    step = (height * width - histogram.gather(2, brightest)) // 255  # [N, C, 1]
    below = histogram.cumsum(2) - histogram
    even = (step // 2 + below) // step.clamp(min=1)
    values = torch.arange(_LEVELS, device=images.device)
    return _look_up(images, torch.where(step == 0, values, even.clamp(max=255)))


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with black: 0 gives black, 1 the image."""
    return _blend(torch.zeros_like(images), images, factor)


def color(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the grey image: 0 gives grey, 1 the image; grey images stay."""
    return _blend(_grey(images).expand_as(images), images, factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the mean grey: 0 gives an even grey, 1 the image."""
    mean = _grey(images).double().mean(dim=(1, 2, 3), keepdim=True)
    return _blend((mean + 0.5).to(torch.uint8).expand_as(images), images, factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the image smoothed by a 3x3 kernel, which leaves its border as it is; 1 gives the image."""
    if min(images.shape[1:3]) < 3:
        return images
    wide = images.int()
    rows = wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]
    weighted = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:] + 4 * wide[:, 1:-1, 1:-1]
    smooth = images.clone()
    smooth[:, 1:-1, 1:-1] = ((2 * weighted + 13) // 26).to(torch.uint8)  # round(weighted / 13)
    return _blend(smooth, images, factor)


def _per_image(values: Tensor, images: Tensor) -> Tensor:
    return values.to(images.device)[:, None, None, None]


def _grey(images: Tensor) -> Tensor:
    """Luma, uint8 [N, H, W, 1] (ITU-R 601-2, as Pillow rounds it)."""
    if images.shape[3] == 1:
        return images
    red, green, blue = (images[..., channel, None].int() * weight for channel, weight in enumerate(_LUMA))
    return ((red + green + blue + 0x8000) >> 16).to(torch.uint8)


def _blend(start: Tensor, end: Tensor, factor: Tensor) -> Tensor:
    first = start.float()
    return (
        (first + _per_image(factor, images=start).float() * (end.float() - first))
        .clamp(0, 255)
        .to(torch.uint8)
    )


def _look_up(images: Tensor, table: Tensor) -> Tensor:
    """Replace each value by its entry in the table [N, C, 256] of its image and channel."""
    count, height, width, channels = images.shape
    values = images.permute(0, 3, 1, 2).reshape(count, channels, -1).long()
    found = table.to(torch.uint8).gather(2, values)
    return found.reshape(count, channels, height, width).permute(0, 2, 3, 1)
