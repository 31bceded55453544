"""Oracle: Pillow, which AutoAugment's own program uses; equality is exact."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from trainer.augment import geometry, pixels

Pixels = np.ndarray


def photographs(channels: int, height: int = 23, width: int = 18) -> Tensor:
    """Images of many kinds: noise, smooth, dark, of few values, of one value; uint8 [N, H, W, C]."""
    rng = np.random.default_rng(5)
    shape = (height, width, channels)
    y, x, _ = np.mgrid[:height, :width, :channels]
    images = [
        rng.integers(0, 256, shape),
        rng.integers(90, 131, shape),
        rng.integers(0, 2, shape) * 200 + 20,
        8 * x + 3 * y,
        rng.normal(60, 20, shape).clip(0, 255),
        np.full(shape, 77),
        np.where(rng.random(shape) < 0.9, 12, rng.integers(0, 256, shape)),
    ]
    return torch.from_numpy(np.stack(images).clip(0, 255).astype(np.uint8))


def with_pillow(images: Tensor, change: Callable[[Image.Image, int], Image.Image]) -> Tensor:
    """Change the images one by one."""
    squeeze = images.shape[3] == 1
    arrays = images[..., 0].numpy() if squeeze else images.numpy()
    out = torch.stack(
        [torch.from_numpy(np.array(change(Image.fromarray(a), i))) for i, a in enumerate(arrays)]
    )
    return out[..., None] if squeeze else out


def settings_of(images: Tensor, low: float, high: float) -> Tensor:
    return torch.linspace(low, high, len(images), dtype=torch.float64)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("ours", "pillows"),
    [
        (pixels.invert, ImageOps.invert),
        (pixels.equalize, ImageOps.equalize),
        (pixels.autocontrast, ImageOps.autocontrast),
    ],
)
def test_operations_without_setting(ours, pillows, channels):
    images = photographs(channels)
    assert torch.equal(ours(images), with_pillow(images, lambda image, _: pillows(image)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("first", [1, 2])
def test_posterize(channels, first):
    images = photographs(channels)
    bits = torch.arange(first, first + len(images))
    expected = with_pillow(images, lambda image, i: ImageOps.posterize(image, int(bits[i])))
    assert torch.equal(pixels.posterize(images, bits), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_solarize(channels):
    images = photographs(channels)
    threshold = settings_of(images, 0, 256)
    expected = with_pillow(images, lambda image, i: ImageOps.solarize(image, float(threshold[i])))
    assert torch.equal(pixels.solarize(images, threshold), expected)
    assert torch.equal(pixels.solarize(images, torch.full_like(threshold, 256.0)), images)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("limits", [(0.1, 1.9), (0.0, 1.0), (1.37, 0.43)])
@pytest.mark.parametrize(
    ("ours", "pillows"),
    [
        (pixels.color, ImageEnhance.Color),
        (pixels.contrast, ImageEnhance.Contrast),
        (pixels.brightness, ImageEnhance.Brightness),
        (pixels.sharpness, ImageEnhance.Sharpness),
    ],
)
def test_enhancements(ours, pillows, limits, channels):
    images = photographs(channels)
    factor = settings_of(images, *limits)
    expected = with_pillow(images, lambda image, i: pillows(image).enhance(float(factor[i])))
    assert torch.equal(ours(images, factor), expected)
    assert torch.equal(ours(images, torch.ones_like(factor)), images)


def pillows_affine(images: Tensor, matrices: list[tuple[float, ...]]) -> Tensor:
    fill = 128 if images.shape[3] == 1 else (128,) * 3

    def change(image: Image.Image, index: int) -> Image.Image:
        return image.transform(
            image.size, Image.Transform.AFFINE, matrices[index], Image.Resampling.NEAREST, fillcolor=fill
        )

    return with_pillow(images, change)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("ours", "matrix", "limit"),
    [
        (geometry.shear_x, lambda s: (1, s, 0, 0, 1, 0), 0.3),
        (geometry.shear_y, lambda s: (1, 0, 0, s, 1, 0), 0.3),
        (geometry.translate_x, lambda s: (1, 0, int(s), 0, 1, 0), 9.0),
        (geometry.translate_y, lambda s: (1, 0, 0, 0, 1, int(s)), 9.0),
    ],
)
def test_shears_and_translations(ours, matrix, limit, channels):
    images = photographs(channels)
    setting = settings_of(images, -limit, limit)
    expected = pillows_affine(images, [matrix(s) for s in setting.tolist()])
    moved = ours(images, setting)
    assert torch.equal(moved, expected)
    assert not torch.equal(moved, images)


@pytest.mark.parametrize("channels", [1, 3])
def test_rotations_are_pillows(channels):
    images = photographs(channels)
    degrees = settings_of(images, -29.0, 30.0)
    fill = 128 if channels == 1 else (128,) * 3
    expected = with_pillow(images, lambda image, i: image.rotate(float(degrees[i]), fillcolor=fill))
    assert torch.equal(geometry.rotate(images, degrees), expected)


@settings(max_examples=60)
@given(st.lists(st.floats(-1.5, 1.5), min_size=4, max_size=4), st.floats(-12, 12), st.floats(-12, 12))
def test_any_affine_map_is_pillows(linear, c, f):
    images = photographs(1)[:1]
    a, b, d, e = linear
    matrix = (a, b, c, d, e, f)
    if b == 0 and d == 0:
        return  # Pillow scales by another program then, in floating point
    ours = geometry.affine(images, torch.tensor([matrix], dtype=torch.float64))
    assert torch.equal(ours, pillows_affine(images, [matrix]))


def test_an_image_without_interior_is_as_sharp_as_it_can_be():
    images = photographs(3, 2, 9)
    assert torch.equal(pixels.sharpness(images, torch.full((len(images),), 0.1)), images)
