"""Images with boxes, listed by a reader and decoded when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import ConfigError
from trainer.config import DataConfig
from trainer.registry import Registry

Boxes = npt.NDArray[np.float32]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class AnnotatedImage:
    """An image file and the objects in it.

    `size` is (width, height) in pixels of the image that was annotated; the file may have been resized since.
    `boxes` float32 [B, 4]: left, top, right, bottom as shares of the image, 0..1; `classes` int64 [B].
    `ignored` bool [B]: objects that need not be found (difficult ones of VOC, crowds of COCO).
    """

    path: Path
    size: tuple[int, int]
    boxes: Boxes
    classes: npt.NDArray[np.int64]
    ignored: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class DetectionSamples:
    """What a reader gives."""

    train_images: Sequence[AnnotatedImage]
    test_images: Sequence[AnnotatedImage]
    class_names: tuple[str, ...]


DETECTION_DATASETS: Registry[Callable[[DataConfig], DetectionSamples]] = Registry("detection dataset")
"""Dataset name -> function that lists it."""


def as_shares(
    corners: Sequence[Sequence[float]], size: tuple[int, int]
) -> tuple[Boxes, npt.NDArray[np.bool_]]:
    """Corners [B][4] in pixels to shares of an image of (width, height), clipped to it.

    Gives the boxes that have an area, and bool [B]: which these are.
    """
    boxes = np.asarray(corners, np.float64).reshape(-1, 4) / np.array([*size, *size], np.float64)
    boxes = boxes.clip(0.0, 1.0)
    kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return boxes[kept].astype(np.float32), kept


def check_proportions(path: Path, size: tuple[int, int], annotated: tuple[int, int]) -> None:
    """Raise ConfigError where an image of `size` (width, height) is not the one that was annotated, resized.

    Each side of the smaller of the two may be a pixel off, by rounding.
    """
    difference = abs(size[0] * annotated[1] - size[1] * annotated[0])
    if difference > max(sum(size), sum(annotated)):
        raise ConfigError(
            f"{path}: is {size[0]}x{size[1]} as it is shown, but its annotation is of "
            f"{annotated[0]}x{annotated[1]}: put that image there, or correct the annotation"
        )
