"""What every dataset is to the rest, and how its pixels become a network's input."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from common.errors import ConfigError
from trainer.config import DataConfig, TrainConfig
from trainer.data.batches import BatchSource

Pixels = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]
Images: TypeAlias = Pixels | Features
"""Images uint8 with 1 or 3 channels, or features of another kind float32, [N, H, W, C]."""

Labels = npt.NDArray[np.int64]
Chunks: TypeAlias = Iterator[tuple[Images, Labels]]
"""Some images and their labels at a time."""

_CHUNK = 4096  # images worked on at once, to bound memory
_LARGEST_LABEL = 100_000


class VariedImages(Protocol):
    """Training images, made anew for each batch from more than `Samples.train_images` holds of them."""

    def to(self, device: str) -> VariedImages:
        """The same on a device."""

    def __call__(self, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Images [n, H, W, C] of the training samples int64 [n], varied by a CPU generator."""


@dataclass(frozen=True)
class Samples:
    """What a source gives: images [N, H, W, C], labels int64 [N]; a damaged file is its ConfigError.

    `validation` are images and labels that `data.validation` holds out instead of training images. `varied`
    makes training images anew for each batch.
    """

    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    class_names: tuple[str, ...]
    validation: tuple[Images, Labels] | None = None
    varied: VariedImages | None = None


class Dataset(Protocol):
    """Samples as a configuration wants them, in memory or read as they are needed.

    `config` loads just these again: where the fallback stepped in, it names that, and it has none itself.
    `input_shape` is (C, H, W) of one image. `mean` and `std` are those of the training images per channel,
    of pixels scaled to 0..1, of features as they are, or those of the configuration.
    """

    @property
    def config(self) -> DataConfig: ...  # noqa: D102

    @property
    def class_names(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def input_shape(self) -> tuple[int, int, int]: ...  # noqa: D102

    @property
    def mean(self) -> tuple[float, ...]: ...  # noqa: D102

    @property
    def std(self) -> tuple[float, ...]: ...  # noqa: D102

    def batches(self, train: TrainConfig, rank: int = 0, ranks: int = 1) -> BatchSource:
        """Training batches; of several processes, each takes its own equal part of every batch."""

    def test(self, count: int | None = None) -> Chunks:
        """The first `count` test samples or all, in chunks."""

    def train(self, count: int) -> Chunks:
        """Training samples as they are, up to `count`, always the same, in chunks."""

    def calibration_images(self, count: int) -> Images:
        """Training images as they are, chosen at random, always the same."""


def describe(config: DataConfig) -> str:
    """A dataset's name in errors."""
    return f"dataset {config.name}" if config.path is None else f"dataset {config.name} ({config.path})"


def normalise(images: Images | Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Scale images [N, H, W, C] to (x / 255 - mean) / std, features to (x - mean) / std.

    The result, float32 [N, C, H, W], is in channels-last memory order: so convolutions run fastest on a CPU.
    """
    pixels = torch.as_tensor(images)
    full = 1.0 if pixels.is_floating_point() else 255.0
    offset = torch.tensor(mean, device=pixels.device) * full
    scale = torch.tensor(std, device=pixels.device) * full
    values = (pixels.float() - offset) / scale
    return values.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def as_pixels(images: Images) -> Pixels:
    """Images to look at, uint8 [N, H, W, C]: each column of features is stretched from lowest to highest.

    Columns are coefficients or bands, of ranges that differ by far.
    """
    if images.dtype == np.uint8:
        return cast("Pixels", images)
    low, span = images.min((0, 1)), np.ptp(images, (0, 1))
    stretched = (images - low) * (255 / np.where(span > 0, span, 1.0))
    return np.asarray(stretched.round(), np.uint8)


def statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of pixels [N, H, W, C] scaled to 0..1, or of features.

    Those of pixels come from the histogram, so they are exact. A constant channel gets the deviation 1.
    """
    if images.dtype != np.uint8:
        centre = images.mean((0, 1, 2), np.float64)
        spread = images.std((0, 1, 2), np.float64)
        return tuple(map(float, centre)), tuple(float(value) or 1.0 for value in spread)
    values = np.arange(256) / 255.0
    means, deviations = [], []
    for channel in range(images.shape[3]):
        counts = np.zeros(256, np.int64)
        for start in range(0, len(images), _CHUNK):
            counts += np.bincount(images[start : start + _CHUNK, ..., channel].ravel(), minlength=256)
        weights = counts / counts.sum()
        mean = float(weights @ values)
        means.append(mean)
        deviations.append(float(np.sqrt(weights @ (values - mean) ** 2)) or 1.0)
    return tuple(means), tuple(deviations)


def check_statistics(config: DataConfig, channels: int) -> None:
    """Raise ConfigError where the mean or deviation of `config` is not one value per channel."""
    for name, values in (("mean", config.mean), ("std", config.std)):
        if values is not None and len(values) != channels:
            raise ConfigError(f"data.{name} has {len(values)} values, but images have {channels} channels")


def choose_statistics(config: DataConfig, images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel: those of `config`, or of `images` where it has none."""
    check_statistics(config, images.shape[3])
    if config.mean is not None and config.std is not None:
        return config.mean, config.std
    mean, std = statistics(images)
    return config.mean or mean, config.std or std


def resize(images: Images, height: int, width: int) -> Images:
    """Resize images uint8 [N, H, W, C] bilinearly, antialiased where they shrink, rounded to uint8.

    Raises ConfigError for features, which have no other size.
    """
    if images.shape[1:3] == (height, width):
        return images
    if images.dtype != np.uint8:
        raise ConfigError(
            f"data.resolution is for images; these are features of {images.shape[1]}x{images.shape[2]}"
        )
    out = np.empty((len(images), height, width, images.shape[3]), np.uint8)
    for start in range(0, len(images), _CHUNK):
        chunk = torch.from_numpy(images[start : start + _CHUNK]).permute(0, 3, 1, 2).float()
        scaled = functional.interpolate(chunk, (height, width), mode="bilinear", antialias=True)
        out[start : start + _CHUNK] = scaled.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return out


def check(samples: Samples, origin: str) -> None:
    """Raise ConfigError, naming `origin`, where shapes, sizes or labels do not agree."""
    for part, images, labels in (
        ("train", samples.train_images, samples.train_labels),
        ("test", samples.test_images, samples.test_labels),
    ):
        pixels, features = images.dtype == np.uint8, images.dtype == np.float32
        if images.ndim != 4 or not images.size or not (features or (pixels and images.shape[3] in (1, 3))):
            raise ConfigError(
                f"{origin}: {part} images must be uint8 [N, H, W, 1 or 3], or features float32 [N, H, W, C]; "
                f"they are {images.dtype} {list(images.shape)}"
            )
        if features and not np.isfinite(images).all():
            raise ConfigError(f"{origin}: {part} features are not all finite")
        if labels.shape != images.shape[:1]:
            raise ConfigError(
                f"{origin}: {len(images)} {part} images, but labels of shape {list(labels.shape)}"
            )
        if labels.dtype != np.int64:
            raise ConfigError(f"{origin}: {part} labels are {labels.dtype}: give labels.astype(np.int64)")
    check_labels(samples.train_labels, samples.test_labels, samples.class_names, origin)
    train, test = samples.train_images, samples.test_images
    if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
        raise ConfigError(
            f"{origin}: train images are {train.dtype} {list(train.shape[1:])}, "
            f"test images {test.dtype} {list(test.shape[1:])}: they must be alike"
        )


def check_labels(train: Labels, test: Labels, class_names: tuple[str, ...], origin: str) -> None:
    """Raise ConfigError, naming `origin`, for labels of no class, and where all for training are of one."""
    classes = len(class_names)
    for part, labels in (("train", train), ("test", test)):
        if labels.min() < 0 or labels.max() >= classes:
            raise ConfigError(
                f"{origin}: {part} labels go from {labels.min()} to {labels.max()}, "
                f"but there are {classes} classes: they must lie in 0..{classes - 1}"
            )
    if (train == train[0]).all():
        raise ConfigError(
            f"{origin}: all training samples are of class {class_names[train[0]]!r}: add those of another one"
        )


def numbered_classes(labels: Labels, origin: Path) -> tuple[str, ...]:
    """Names for classes that have none: the numbers up to the largest of the training labels.

    Raises ConfigError, naming `origin`, for a label that is too large to be one of so many.
    """
    largest = int(labels.max(initial=0))
    if largest > _LARGEST_LABEL:
        raise ConfigError(
            f"{origin}: label {largest} is above {_LARGEST_LABEL}: number the classes 0, 1, 2 and so on"
        )
    return tuple(str(label) for label in range(largest + 1))


def check_names(class_names: tuple[str, ...], origin: str) -> None:
    """Raise ConfigError, naming `origin`, for a name that no file can hold: it was read from other bytes."""
    for name in class_names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ConfigError(f"{origin}: the name {name!r} of a class is not UTF-8: rename it") from None


def hold_out(samples: Samples, count: int, generator: np.random.Generator) -> Samples:
    """Put `count` random images of the validation split, or else of training, in place of the test images."""
    if samples.validation is not None:
        images, labels = samples.validation
        if count > len(images):
            raise ConfigError(f"data.validation {count} is more than the {len(images)} there are: lower it")
        held = np.sort(generator.permutation(len(images))[:count])
        return replace(samples, test_images=images[held], test_labels=labels[held], validation=None)
    if samples.varied is not None:
        raise ConfigError(
            "data.validation: this dataset varies its training images, so none can be held out: remove it"
        )
    held, kept = split_off(len(samples.train_images), count, generator)
    return replace(
        samples,
        train_images=samples.train_images[kept],
        train_labels=samples.train_labels[kept],
        test_images=samples.train_images[held],
        test_labels=samples.train_labels[held],
    )


def split_off(images: int, count: int, generator: np.random.Generator) -> tuple[Labels, Labels]:
    """Indices of `count` random images and those of all others, sorted; ConfigError where none is left."""
    if count >= images:
        raise ConfigError(f"data.validation {count} leaves none of the {images} training images: lower it")
    order = generator.permutation(images)
    return np.sort(order[:count]), np.sort(order[count:])
