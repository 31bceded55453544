"""Variation of training images together with their boxes, as single-shot detectors have it.

Colours, expansion, crops and flips follow Liu et al. (SSD, ECCV 2016, section 2.2), with GluonCV's settings
for YOLOv3. All of an image's geometry is one resize of a part of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from common.errors import ConfigError
from trainer.config import DetectionConfig
from trainer.data.images import EncodedImage
from trainer.detection.boxes import overlaps
from trainer.detection.samples import IMAGENET_MEAN, AnnotatedImage, Boxes, check_proportions

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]

_LARGEST_EXPANSION = 4.0
_SMALLEST_CROP = 0.3
_LARGEST_ASPECT = 2.0
_TRIALS = 50
_OVERLAP_RANGES = ((0.1, 1.0), (0.3, 1.0), (0.5, 1.0), (0.7, 1.0), (0.9, 1.0), (0.0, 1.0))
_BRIGHTNESS = 32.0
_LOWEST, _HIGHEST = 0.5, 1.5  # factors of contrast and saturation
_HUE_DEGREES = 18.0
_LUMA = np.array([0.299, 0.587, 0.114])
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
_FILL = np.round(np.array(IMAGENET_MEAN) * 255).astype(np.uint8)

_WHOLE = np.array([0.0, 0.0, 1.0, 1.0])


@dataclass(frozen=True)
class View:
    """How an image is seen: the window into it, and the change of its colours.

    `window` float [4]: left, top, right, bottom as shares of the image; outside of it all is grey. `mirrored`
    turns left and right round. A pixel (R, G, B), 0..255, becomes `colour` [3, 3] times it plus `offset`.
    """

    window: Floats
    mirrored: bool = False
    colour: Floats | None = None
    offset: float = 0.0


PLAIN_VIEW = View(_WHOLE)


def draw_view(boxes: Boxes, config: DetectionConfig, generator: np.random.Generator) -> View:
    """Draw a view of an image with boxes float [B, 4], as shares of it; one of them, if any, stays in."""
    window = _WHOLE
    if config.expand and generator.random() < 0.5:
        window = _expansion(generator)
    if config.crop and len(boxes):
        window = _crop(window, boxes.astype(np.float64), generator)
    mirrored = config.flip and bool(generator.random() < 0.5)
    colour, offset = _colours(generator) if config.colour else (None, 0.0)
    return View(window, mirrored, colour, offset)


def render(
    image: AnnotatedImage, view: View, height: int, width: int
) -> tuple[Pixels, Boxes, npt.NDArray[np.int64]]:
    """The view of an image, resized to uint8 [height, width, 3], its boxes float32 [B, 4] and classes [B].

    Boxes whose centre is outside of the window are gone, the others are clipped to it. Raises ConfigError for
    a missing or damaged image.
    """
    encoded = open_image(image)
    seen = np.array([*np.maximum(view.window[:2], 0.0), *np.minimum(view.window[2:], 1.0)])
    extent = view.window[2:] - view.window[:2]
    size = np.array([width, height])
    placed = (seen - np.tile(view.window[:2], 2)) / np.tile(extent, 2)
    target = np.round(placed * np.tile(size, 2)).astype(int)
    target[2:] = np.minimum(np.maximum(target[2:], target[:2] + 1), size)
    target[:2] = np.minimum(target[:2], target[2:] - 1)
    left, top, right, bottom = (int(value) for value in target)
    source = seen * np.tile(np.array(encoded.size), 2)
    part = encoded.decode(3, (bottom - top, right - left), (source[0], source[1], source[2], source[3]))
    pixels = np.broadcast_to(_FILL, (height, width, 3)).copy()
    pixels[top:bottom, left:right] = part
    if view.colour is not None:
        varied = pixels.reshape(-1, 3) @ view.colour.T.astype(np.float32) + np.float32(view.offset)
        pixels = varied.round().clip(0, 255).astype(np.uint8).reshape(height, width, 3)
    scale = (target[2:] - target[:2]) / (seen[2:] - seen[:2]) / size
    moved = (image.boxes - np.tile(seen[:2], 2)) * np.tile(scale, 2) + np.tile(target[:2] / size, 2)
    inside = _centres_inside(moved, _WHOLE)
    moved = moved[inside].clip(0.0, 1.0)
    if view.mirrored:
        pixels = pixels[:, ::-1]
        moved = np.stack([1.0 - moved[:, 2], moved[:, 1], 1.0 - moved[:, 0], moved[:, 3]], axis=1)
    return pixels, moved.astype(np.float32), image.classes[inside]


def open_image(image: AnnotatedImage) -> EncodedImage:
    """Read an image's file; raises ConfigError where that fails, or it is not the one with these boxes."""
    try:
        encoded = EncodedImage(image.path.read_bytes(), str(image.path))
    except OSError as error:
        raise ConfigError(f"{image.path}: cannot be read ({error.strerror or error})") from error
    check_proportions(image.path, encoded.size, image.size)
    return encoded


def _expansion(generator: np.random.Generator) -> Floats:
    """A window of which the image is a part."""
    ratio = generator.uniform(1.0, _LARGEST_EXPANSION)
    low = -generator.random(2) * (ratio - 1.0)
    return np.concatenate([low, low + ratio])


def _crop(window: Floats, boxes: Floats, generator: np.random.Generator) -> Floats:
    """A part of `window`, or all of it, that holds the centre of a box; one of six drawn for constraints.

    A constraint is the range in which the overlap (IoU) of every box with the part must lie; the first of 50
    parts that meets it is a candidate.
    """
    candidates = [window]
    extent = window[2:] - window[:2]
    for lowest, highest in _OVERLAP_RANGES:
        scale = generator.uniform(_SMALLEST_CROP, 1.0, _TRIALS)
        smallest = np.maximum(1 / _LARGEST_ASPECT, scale**2)
        aspect = generator.uniform(smallest, 1 / smallest)
        sides = np.stack([scale * np.sqrt(aspect), scale / np.sqrt(aspect)], axis=1) * extent
        low = window[:2] + generator.random((_TRIALS, 2)) * (extent - sides)
        parts = np.concatenate([low, low + sides], axis=1)
        shared = overlaps(torch.from_numpy(parts), torch.from_numpy(boxes)).numpy()
        holds = _centres_inside(boxes, parts).any(axis=1)
        fits = (shared.min(axis=1) >= lowest) & (shared.max(axis=1) <= highest) & holds
        if fits.any():
            candidates.append(parts[fits.argmax()])
    chosen: Floats = candidates[generator.integers(len(candidates))]
    return chosen


def _centres_inside(boxes: npt.NDArray[np.floating[Any]], windows: Floats) -> npt.NDArray[np.bool_]:
    """Whether the centres of boxes [B, 4] lie inside of windows [..., 4]: bool [..., B]."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    low, high = windows[..., None, :2], windows[..., None, 2:]
    inside: npt.NDArray[np.bool_] = ((centres > low) & (centres < high)).all(axis=-1)
    return inside


def _colours(generator: np.random.Generator) -> tuple[Floats, float]:
    """Brightness, contrast, saturation and hue, each in half of the images, as one linear map."""
    chosen = generator.random(4) < 0.5
    brightness = generator.uniform(-_BRIGHTNESS, _BRIGHTNESS) if chosen[0] else 0.0
    matrix = np.eye(3)
    if chosen[1]:
        matrix = matrix * generator.uniform(_LOWEST, _HIGHEST)
    if chosen[2]:
        share = generator.uniform(_LOWEST, _HIGHEST)
        matrix = (share * np.eye(3) + (1.0 - share) * np.tile(_LUMA, (3, 1))) @ matrix
    if chosen[3]:
        angle = math.radians(generator.uniform(-_HUE_DEGREES, _HUE_DEGREES))
        turn = np.array(
            [[1, 0, 0], [0, math.cos(angle), -math.sin(angle)], [0, math.sin(angle), math.cos(angle)]]
        )
        matrix = np.linalg.inv(_TO_YIQ) @ turn @ _TO_YIQ @ matrix
    return matrix, brightness
