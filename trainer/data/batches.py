"""Batches of training images, chosen, varied and normalised by a few tensor operations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from common.errors import ConfigError
from trainer.config import DataConfig, TrainConfig
from trainer.data.dataset import Dataset, normalise
from trainer.seeds import derive_seed


@dataclass(frozen=True)
class Batch:
    """Images float32 [N, C, H, W] and what is to be learnt of them.

    That are labels int64 [N], shares of classes float32 [N, classes], or boxes float32 [N, boxes, 5]: class,
    centre x, y, width and height as shares of the image, where class -1 is no box.
    """

    images: Tensor
    labels: Tensor

    def split(self, parts: int) -> list[Batch]:
        """Equal parts, in order."""
        return [
            Batch(images, labels)
            for images, labels in zip(self.images.chunk(parts), self.labels.chunk(parts), strict=True)
        ]


class BatchSource(Protocol):
    """Gives the batches of any epoch; equal seeds and epochs give equal batches, also after a resume.

    `steps` is how many batches an epoch has.
    """

    steps: int

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """All batches of an epoch, counted from 0, of equal size, in random order."""

    def calibration(self, count: int) -> Iterator[Tensor]:
        """The same up to `count` varied training images in every call, in batches float [N, C, H, W]."""


class TrainingBatches:
    """Draws the batches of any epoch; equal seeds and epochs give equal batches.

    Holds all training images on the device. A last batch that would be smaller is left out. Raises
    ConfigError where an epoch has fewer images than one batch takes.
    """

    def __init__(self, dataset: Dataset, data: DataConfig, train: TrainConfig) -> None:
        count = train.images_per_epoch or len(dataset.train_images)
        self._images = torch.tensor(dataset.train_images, device=train.device)
        self._labels = torch.tensor(dataset.train_labels, device=train.device)
        self._config = data
        self._dataset = dataset
        self._batch_size = train.batch_size
        self._seed = train.seed
        self.steps = count // train.batch_size
        if not self.steps:
            raise ConfigError(
                f"train.batch_size {train.batch_size} is more than the {count} images of an epoch: lower it"
            )

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """All batches of an epoch, counted from 0, in random order."""
        generator = self._generator("shuffle", epoch)
        return self._batches(self._order(self.steps * self._batch_size, generator), generator)

    def calibration(self, count: int) -> Iterator[Tensor]:
        """The same random images in every call, varied like training images, float [N, C, H, W].

        They are at most `count`, in batches of training size; a smaller last batch is left out, as its
        statistics are poor.
        """
        generator = self._generator("calibration")
        count = min(count, len(self._images))
        if count > self._batch_size:
            count -= count % self._batch_size
        return (batch.images for batch in self._batches(self._order(count, generator), generator))

    def _order(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` indices of images: none comes again before all others have come as often."""
        images = len(self._images)
        rounds = -(-count // images)
        orders = [torch.randperm(images, generator=generator) for _ in range(rounds)]
        return torch.cat([torch.empty(0, dtype=torch.int64), *orders])[:count]

    def _generator(self, purpose: str, *indices: int) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(self._seed, purpose, *indices))

    def _batches(self, order: Tensor, generator: torch.Generator) -> Iterator[Batch]:
        order = order.to(self._images.device)
        for start in range(0, len(order), self._batch_size):
            chosen = order[start : start + self._batch_size]
            images = augment(self._images[chosen], self._config.crop_padding, self._config.flip, generator)
            yield Batch(normalise(images, self._dataset.mean, self._dataset.std), self._labels[chosen])


def augment(images: Tensor, crop_padding: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Vary images uint8 [N, H, W, C]: crop at random after padding all sides with black, mirror half of them.

    Shape, dtype and device stay. `generator` is a CPU generator; 0 and False leave the images as they are.
    """
    count, height, width, _ = images.shape
    if not crop_padding and not flip:
        return images
    offsets = torch.randint(0, 2 * crop_padding + 1, (2, count), generator=generator).to(images.device)
    mirrored = (torch.rand(count, generator=generator) < (0.5 if flip else 0.0)).to(images.device)
    padded = functional.pad(images, (0, 0, crop_padding, crop_padding, crop_padding, crop_padding))
    windows = padded.unfold(1, height, 1).unfold(2, width, 1)  # [N, offset y, offset x, C, H, W], a view
    crops = windows[torch.arange(count, device=images.device), offsets[0], offsets[1]].permute(0, 2, 3, 1)
    return torch.where(mirrored[:, None, None, None], crops.flip(2), crops)
