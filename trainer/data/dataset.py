"""What every dataset is to the rest, and how its pixels become a network's input."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from common.errors import ConfigError
from trainer.config import DataConfig

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

_CHUNK = 4096  # images worked on at once, to bound memory


@dataclass(frozen=True)
class Samples:
    """What a source gives: images uint8 [N, H, W, C], labels int64 [N]; a damaged file is its ConfigError."""

    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Dataset(Samples):
    """Samples as a configuration wants them.

    `config` loads just these again: where the fallback stepped in, it names that, and it has none itself.
    `mean` and `std` are those of the training images per channel, of pixels scaled to 0..1.
    """

    config: DataConfig
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def name(self) -> str:
        """The name of the dataset that was used."""
        return self.config.name

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        _, height, width, channels = self.train_images.shape
        return channels, height, width


def normalise(images: Images | Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Scale images uint8 [N, H, W, C] to (x / 255 - mean) / std, float32 [N, C, H, W].

    The values are in channels-last memory order, in which convolutions run fastest on a CPU.
    """
    pixels = torch.as_tensor(images)
    offset = torch.tensor(mean, device=pixels.device) * 255.0
    scale = torch.tensor(std, device=pixels.device) * 255.0
    values = (pixels.float() - offset) / scale
    return values.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of images uint8 [N, H, W, C], scaled to 0..1.

    Computed from the histogram, so exactly. A constant channel gets the deviation 1.
    """
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


def resize(images: Images, height: int, width: int) -> Images:
    """Resize images uint8 [N, H, W, C] bilinearly, antialiased where they shrink, rounded to uint8."""
    if images.shape[1:3] == (height, width):
        return images
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
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or not images.size:
            raise ConfigError(
                f"{origin}: {part} images must be uint8 [N, H, W, 1 or 3]; "
                f"they are {images.dtype} {list(images.shape)}"
            )
        if labels.shape != images.shape[:1]:
            raise ConfigError(
                f"{origin}: {len(images)} {part} images, but labels of shape {list(labels.shape)}"
            )
        classes = len(samples.class_names)
        if labels.min() < 0 or labels.max() >= classes:
            raise ConfigError(
                f"{origin}: {part} labels go from {labels.min()} to {labels.max()}, "
                f"but there are {classes} classes: they must lie in 0..{classes - 1}"
            )
    if samples.train_images.shape[1:] != samples.test_images.shape[1:]:
        raise ConfigError(
            f"{origin}: train images are {list(samples.train_images.shape[1:])}, "
            f"test images {list(samples.test_images.shape[1:])}: they must be alike"
        )


def hold_out(samples: Samples, count: int, generator: np.random.Generator) -> Samples:
    """Put `count` random training images in the place of the test images."""
    if count >= len(samples.train_images):
        raise ConfigError(
            f"data.validation {count} leaves none of the {len(samples.train_images)} training images: "
            "lower it"
        )
    order = generator.permutation(len(samples.train_images))
    held, kept = np.sort(order[:count]), np.sort(order[count:])
    return replace(
        samples,
        train_images=samples.train_images[kept],
        train_labels=samples.train_labels[kept],
        test_images=samples.train_images[held],
        test_labels=samples.train_labels[held],
    )
