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

_HOLD_OUT_SEED = 937_162_211


@dataclass(frozen=True)
class AnnotatedImage:
    """An image file and the objects in it.

    `size` is (width, height) in pixels. `boxes` float32 [B, 4]: left, top, right, bottom as shares of the
    image, 0..1; `classes` int64 [B]. `ignored` bool [B]: objects that need not be found (difficult ones of
    VOC, crowds of COCO).
    """

    path: Path
    size: tuple[int, int]
    boxes: Boxes
    classes: npt.NDArray[np.int64]
    ignored: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class DetectionSamples:
    """What a reader gives."""

    train: Sequence[AnnotatedImage]
    test: Sequence[AnnotatedImage]
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class DetectionDataset(DetectionSamples):
    """Samples as a configuration wants them; images are RGB, stretched to `input_shape` (C, H, W).

    `mean` and `std` per channel, of pixels scaled to 0..1, normalise them.
    """

    config: DataConfig
    input_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


DETECTION_DATASETS: Registry[Callable[[DataConfig], DetectionSamples]] = Registry("detection dataset")
"""Dataset name -> function that lists it."""

_DEFAULT_SIDE = 416
_FOR_CLASSIFICATION = ("crop_padding", "flip", "crop_scale", "jitter", "augment", "stream")


def load_detection(config: DataConfig) -> DetectionDataset:
    """List the dataset that `config` names, limited as it wants; no image is decoded.

    Without `config.resolution`, images are 416x416. Raises ConfigError for an unknown name, absent or damaged
    files, a part without objects, or a setting that is for classification alone.
    """
    for name in _FOR_CLASSIFICATION:
        if getattr(config, name) != DataConfig.model_fields[name].default:
            raise ConfigError(f"data.{name} does not vary images with boxes: see train.detection")
    samples = DETECTION_DATASETS.get(config.name)(config)
    train, test = list(samples.train), list(samples.test)
    if config.validation:
        if config.validation >= len(train):
            raise ConfigError(
                f"data.validation {config.validation} leaves none of the {len(train)} training images: "
                "lower it"
            )
        order = np.random.default_rng(_HOLD_OUT_SEED).permutation(len(train))
        test = [train[index] for index in np.sort(order[: config.validation])]
        train = [train[index] for index in np.sort(order[config.validation :])]
    train, test = train[: config.train_limit], test[: config.test_limit]
    for part, images in (("training", train), ("test", test)):
        if not any(len(image.boxes) for image in images):
            raise ConfigError(
                f"dataset {config.name} ({config.path}): no object in {len(images)} {part} images"
            )
    resolution = config.resolution or _DEFAULT_SIDE
    height, width = (resolution, resolution) if isinstance(resolution, int) else resolution
    return DetectionDataset(
        train,
        test,
        samples.class_names,
        config=config.model_copy(update={"fallback": None}),
        input_shape=(3, height, width),
        mean=config.mean or IMAGENET_MEAN,
        std=config.std or IMAGENET_STD,
    )


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
