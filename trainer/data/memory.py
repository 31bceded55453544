"""Datasets that are held in memory as arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainer.config import DataConfig, TrainConfig
from trainer.data.batches import Batch, calibration_length, epoch_length, prefetch
from trainer.data.dataset import Chunks, Images, Labels, Samples
from trainer.data.variation import Variation
from trainer.seeds import derive_seed

_CHUNK = 500


@dataclass(frozen=True, kw_only=True)
class MemoryDataset(Samples):
    """Samples as a configuration wants them; see `Dataset`."""

    config: DataConfig
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        _, height, width, channels = self.train_images.shape
        return channels, height, width

    def batches(self, train: TrainConfig, rank: int = 0, ranks: int = 1) -> MemoryBatches:
        """Training batches; of several processes, each takes its own equal part of every batch."""
        return MemoryBatches(self, train, rank, ranks)

    def test(self, count: int | None = None) -> Chunks:
        """The first `count` test samples or all, in chunks."""
        return _chunks(self.test_images[:count], self.test_labels[:count])

    def train(self, count: int) -> Chunks:
        """The first training samples as they are, up to `count`, in chunks."""
        return _chunks(self.train_images[:count], self.train_labels[:count])

    def calibration_images(self, count: int) -> Images:
        """Training images as they are, chosen at random, always the same."""
        chosen = np.random.default_rng(0).permutation(len(self.train_images))
        return self.train_images[np.sort(chosen[:count])]


def _chunks(images: Images, labels: Labels) -> Chunks:
    for start in range(0, len(images), _CHUNK):
        yield images[start : start + _CHUNK], labels[start : start + _CHUNK]


def _on(device: str, dataset: MemoryDataset) -> Callable[[Tensor, torch.Generator], Tensor]:
    """What gives the training images int64 [n], held on the device."""
    if dataset.varied is not None:
        return dataset.varied.to(device)
    images = torch.as_tensor(dataset.train_images, device=device)
    return lambda chosen, _generator: images[chosen]


class MemoryBatches:
    """Draws the batches of any epoch; equal seeds and epochs give equal batches.

    Holds all training images on the device. A last batch that would be smaller is left out. Raises
    ConfigError where an epoch has fewer images than one batch takes.
    """

    def __init__(self, dataset: MemoryDataset, train: TrainConfig, rank: int = 0, ranks: int = 1) -> None:
        self.steps = epoch_length(len(dataset.train_images), train)
        self._count = len(dataset.train_images)
        self._images = _on(train.device, dataset)
        self._labels = torch.as_tensor(dataset.train_labels, device=train.device)
        self._variation = Variation(dataset)
        self._batch_size = train.batch_size
        self._seed = train.seed
        self._rank, self._ranks = rank, ranks

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """All batches of an epoch, counted from 0, in random order."""
        generator = self._generator("shuffle", epoch)
        batches = self._batches(self._order(self.steps * self._batch_size, generator), generator)
        if self._ranks > 1:
            batches = (batch.split(self._ranks)[self._rank] for batch in batches)
        return prefetch(batches)

    def calibration(self, count: int) -> Iterator[Tensor]:
        """The same random images in every call, varied like training images, float [N, C, H, W].

        They are at most `count`, in batches of training size; a smaller last batch is left out, as its
        statistics are poor.
        """
        generator = self._generator("calibration")
        count = calibration_length(self._count, count, self._batch_size)
        return (batch.images for batch in self._batches(self._order(count, generator), generator))

    def _order(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` indices of images: none comes again before all others have come as often."""
        rounds = -(-count // self._count)
        orders = [torch.randperm(self._count, generator=generator) for _ in range(rounds)]
        return torch.cat([torch.empty(0, dtype=torch.int64), *orders])[:count]

    def _generator(self, purpose: str, *indices: int) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(self._seed, purpose, *indices))

    def _batches(self, order: Tensor, generator: torch.Generator) -> Iterator[Batch]:
        order = order.to(self._labels.device)
        for start in range(0, len(order), self._batch_size):
            chosen = order[start : start + self._batch_size]
            yield self._variation(self._images(chosen, generator), self._labels[chosen], generator)
