"""Datasets whose images are read, decoded and cropped by threads while others are trained on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from common.errors import ConfigError
from trainer.augment.crops import Numbers, crop_boxes, crop_draws
from trainer.config import DataConfig, TrainConfig
from trainer.data.batches import Batch, calibration_length, epoch_length, prefetch
from trainer.data.channels import choose_channels
from trainer.data.dataset import (
    Chunks,
    Labels,
    Pixels,
    check_labels,
    choose_statistics,
    describe,
    split_off,
)
from trainer.data.folders import run_threads
from trainer.data.images import Box, EncodedImage
from trainer.data.records import EncodedSamples, Records
from trainer.data.variation import Variation
from trainer.seeds import derive_seed

_CHUNK = 500
_STATISTICS_IMAGES = 2_000
_CENTRE = 0.875


@dataclass(frozen=True)
class StreamedDataset:
    """Encoded samples as a configuration wants them; see `Dataset`.

    Images for testing are resized until 7/8 of one side are the resolution, and cut out of the middle.
    """

    config: DataConfig
    class_names: tuple[str, ...]
    train_records: Records
    test_records: Records
    input_shape: tuple[int, int, int]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def batches(self, train: TrainConfig, rank: int = 0, ranks: int = 1) -> StreamedBatches:
        """Training batches; of several processes, each reads its own equal part of every batch."""
        return StreamedBatches(self, train, rank, ranks)

    def test(self, count: int | None = None) -> Chunks:
        """The first `count` test samples or all, in chunks."""
        return self._chunks(self.test_records, range(len(self.test_records))[:count])

    def train(self, count: int) -> Chunks:
        """Training samples without variation, up to `count`, chosen at random, always the same, in chunks."""
        return self._chunks(self.train_records, self.train_records.spread(count))

    def calibration_images(self, count: int) -> Pixels:
        """Training images without variation, chosen at random, always the same."""
        return np.concatenate([images for images, _ in self.train(count)])

    def decode(self, image: EncodedImage, box: Box | None = None) -> Pixels:
        """The part `box` of an image, or its middle, at the resolution."""
        channels, height, width = self.input_shape
        return image.decode(channels, (height, width), box or middle(image.size, (height, width)))

    def _chunks(self, records: Records, indices: Iterable[int]) -> Chunks:
        chosen = iter(indices)
        while part := list(islice(chosen, _CHUNK)):
            images = run_threads(lambda index: self.decode(records.open(index)), part)
            yield np.stack(list(images)), records.labels[part]


def make_streamed(
    samples: EncodedSamples, config: DataConfig, hold_out: np.random.Generator
) -> StreamedDataset:
    """Limit and check; the mean and deviation are those of 2,000 images where the configuration has none.

    The `config` of the dataset has them then, so that they need not be found again.
    """
    if config.size is None:
        raise ConfigError(f"data.resolution is missing: dataset {config.name} has images of many sizes")
    train, test = samples.train, samples.test
    check_labels(train.labels, test.labels, samples.class_names, describe(config))
    if config.validation:
        held, kept = split_off(len(train), config.validation, hold_out)
        train, test = train.take(kept), train.take(held)
    train, test = train.first(config.train_limit), test.first(config.test_limit)
    shape = (choose_channels(train), *config.size)
    dataset = StreamedDataset(config, samples.class_names, train, test, shape)
    mean, std = choose_statistics(config, dataset.calibration_images(_STATISTICS_IMAGES))
    config = config.model_copy(update={"mean": mean, "std": std})
    return StreamedDataset(config, samples.class_names, train, test, shape, mean, std)


def middle(size: tuple[int, int], wanted: tuple[int, int]) -> Box:
    """What remains of an image of `size` (width, height) when it is cut to `wanted` (height, width).

    The image is resized first so that it just covers 8/7 of `wanted`, as ImageNet's test images are.
    """
    width, height = size
    covered = [math.ceil(side / _CENTRE) for side in wanted]
    scale = min(height / covered[0], width / covered[1])
    box_height, box_width = wanted[0] * scale, wanted[1] * scale
    left, top = (width - box_width) / 2, (height - box_height) / 2
    return left, top, left + box_width, top + box_height


class StreamedBatches:
    """Reads the batches of any epoch; equal seeds and epochs give equal batches.

    Threads decode the images of the next batches, of two at the most. A last batch that would be smaller is
    left out. Several processes together read the images and crops that one would, but mirror and colour their
    parts by random numbers of their own. Raises ConfigError where an epoch has fewer images than one batch
    takes.
    """

    def __init__(self, dataset: StreamedDataset, train: TrainConfig, rank: int = 0, ranks: int = 1) -> None:
        self.steps = epoch_length(len(dataset.train_records), train)
        self._dataset = dataset
        self._records = dataset.train_records
        self._crop_scale = dataset.config.crop_scale
        self._variation = Variation(dataset)
        self._device = train.device
        self._batch_size = train.batch_size
        self._seed = train.seed
        share = train.batch_size // ranks
        self._part = slice(rank * share, (rank + 1) * share)
        self._rank = rank

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, both counted from 0, in random order, from `first_step` on."""
        random = np.random.default_rng(derive_seed(self._seed, "shuffle", epoch))
        count = self.steps * self._batch_size
        orders = [self._records.order(random) for _ in range(-(-count // len(self._records)))]
        order = np.concatenate(orders)[:count].reshape(self.steps, self._batch_size)
        parts = [(step, order[step]) for step in range(first_step, self.steps)]
        return prefetch(self._batches("epoch", epoch, parts, self._part, self._rank))

    def calibration(self, count: int) -> Iterator[Tensor]:
        """The same random images in every call, varied like training images, float [N, C, H, W].

        They are at most `count`, in batches of training size; a smaller last batch is left out, as its
        statistics are poor.
        """
        count = calibration_length(len(self._records), count, self._batch_size)
        random = np.random.default_rng(derive_seed(self._seed, "calibration"))
        order = random.permutation(len(self._records))[:count]
        size = self._batch_size
        parts = [(start // size, order[start : start + size]) for start in range(0, count, size)]
        return (batch.images for batch in self._batches("calibration", 0, parts, slice(None), 0))

    def _batches(
        self, purpose: str, epoch: int, parts: list[tuple[int, Labels]], own: slice, rank: int
    ) -> Iterator[Batch]:
        """Batches of those images at `own` places among the ones that each part (step, indices) names."""

        def items() -> Iterator[tuple[int, Numbers]]:
            for step, indices in parts:
                draws = crop_draws(len(indices), self._generator(purpose, "crop", epoch, step))
                yield from zip(indices[own].tolist(), draws[own], strict=True)

        images = run_threads(self._decode, items(), 2 * self._batch_size)
        for step, indices in parts:
            chosen = indices[own]
            pixels = torch.from_numpy(np.stack(list(islice(images, len(chosen)))))
            labels = torch.from_numpy(self._records.labels[chosen])
            yield self._variation(
                pixels.to(self._device),
                labels.to(self._device),
                self._generator(purpose, "vary", epoch, step, rank),
                cropped=True,
            )

    def _decode(self, item: tuple[int, Numbers]) -> Pixels:
        index, draws = item
        image = self._records.open(index)
        box: Box | None = None
        if self._crop_scale is not None:
            width, height = image.size
            size = np.array([[height, width]], np.float64)
            left, top, right, bottom = crop_boxes(size, self._crop_scale, draws[np.newaxis])[0].tolist()
            box = (left, top, right, bottom)
        return self._dataset.decode(image, box)

    def _generator(self, purpose: str, kind: str, *indices: int) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(self._seed, f"{purpose} {kind}", *indices))
