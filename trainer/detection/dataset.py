"""A detection dataset as a configuration wants it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from common.errors import ConfigError
from trainer.config import DataConfig, TrainConfig
from trainer.data.batches import BatchSource
from trainer.data.dataset import Chunks, check_names, check_statistics, describe
from trainer.data.folders import processors
from trainer.detection.augment import PLAIN_VIEW, Pixels, render
from trainer.detection.batches import DetectionBatches
from trainer.detection.samples import (
    DETECTION_DATASETS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    AnnotatedImage,
    DetectionSamples,
)

_DEFAULT_SIDE = 416
_CHANNELS = 3
_FOR_CLASSIFICATION = ("crop_padding", "flip", "crop_scale", "jitter", "augment", "stream")
_CHUNK = 32
_HOLD_OUT_SEED = 937_162_211
_CALIBRATION_SEED = 0


@dataclass(frozen=True)
class DetectionDataset(DetectionSamples):
    """Images with boxes, RGB, stretched to `input_shape` (C, H, W) and decoded when they are needed.

    It is a `trainer.data.Dataset`, but has no labels: they are -1, which is unknown. `mean` and `std` per
    channel, of pixels scaled to 0..1, normalise the images.
    """

    config: DataConfig
    input_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def batches(self, train: TrainConfig, rank: int = 0, ranks: int = 1) -> BatchSource:
        """Training batches with boxes."""
        return DetectionBatches(self, train, rank, ranks)

    def test(self, count: int | None = None) -> Chunks:
        """The first `count` test images or all, in chunks."""
        return _unlabelled(self.pixels(self.test_images[:count]))

    def train(self, count: int) -> Chunks:
        """Training images as they are, up to `count`, in chunks."""
        return _unlabelled(self.pixels(self.train_images[:count]))

    def calibration_images(self, count: int) -> Pixels:
        """Training images as they are, chosen at random, always the same."""
        order = np.random.default_rng(_CALIBRATION_SEED).permutation(len(self.train_images))[:count]
        return np.concatenate(list(self.pixels([self.train_images[index] for index in np.sort(order)])))

    def pixels(self, images: Sequence[AnnotatedImage]) -> Iterator[Pixels]:
        """Images as they are, stretched to the input shape: uint8 [N, H, W, 3], some at a time."""
        _, height, width = self.input_shape

        def work(image: AnnotatedImage) -> Pixels:
            return render(image, PLAIN_VIEW, height, width)[0]

        with ThreadPoolExecutor(processors()) as pool:
            for start in range(0, len(images), _CHUNK):
                yield np.stack(list(pool.map(work, images[start : start + _CHUNK])))


def _unlabelled(chunks: Iterator[Pixels]) -> Chunks:
    return ((chunk, np.full(len(chunk), -1, np.int64)) for chunk in chunks)


def load_detection(config: DataConfig) -> DetectionDataset:
    """List the dataset that `config` names, limited as it wants; no image is decoded.

    Without `config.resolution`, images are 416x416. Raises ConfigError for an unknown name, absent or damaged
    files, a part without objects, or a setting that is for classification alone.
    """
    for name in _FOR_CLASSIFICATION:
        if getattr(config, name) != DataConfig.model_fields[name].default:
            raise ConfigError(f"data.{name} does not vary images with boxes: see train.detection")
    check_statistics(config, _CHANNELS)
    samples = DETECTION_DATASETS.get(config.name)(config)
    check_names(samples.class_names, describe(config))
    train, test = list(samples.train_images), list(samples.test_images)
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
            raise ConfigError(f"{describe(config)}: no object in {len(images)} {part} images")
    resolution = config.resolution or _DEFAULT_SIDE
    height, width = (resolution, resolution) if isinstance(resolution, int) else resolution
    return DetectionDataset(
        train,
        test,
        samples.class_names,
        config=config.model_copy(update={"fallback": None}),
        input_shape=(_CHANNELS, height, width),
        mean=config.mean or IMAGENET_MEAN,
        std=config.std or IMAGENET_STD,
    )
