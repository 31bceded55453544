"""Batches of training images with their boxes, read and varied by threads ahead of the training."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainer.config import DetectionConfig, TrainConfig
from trainer.data.batches import Batch, calibration_length, epoch_length
from trainer.data.dataset import normalise
from trainer.data.folders import processors
from trainer.detection.augment import Pixels, draw_view, render
from trainer.detection.loss import BOX_COLUMNS
from trainer.detection.samples import AnnotatedImage
from trainer.seeds import derive_seed

if TYPE_CHECKING:
    from trainer.detection.dataset import DetectionDataset

_AHEAD = 2  # batches
_MIXUP = 1.5  # both parameters of the Beta distribution

Rows = npt.NDArray[np.float32]
Sample = tuple[Pixels, Rows]


@dataclass(frozen=True)
class _Draw:
    """A training image to be: which, the seed of its variation, its size, and whether it may be blended."""

    index: int
    seed: int
    height: int
    width: int
    mixes: bool


class DetectionBatches:
    """Draws the batches of any epoch; equal seeds and epochs give equal batches.

    Labels are float32 [N, boxes, 6] as `trainer.detection.loss` takes them. Of several processes, each draws
    its own equal part of every batch. Raises ConfigError where an epoch has fewer images than one batch.
    """

    def __init__(self, dataset: DetectionDataset, train: TrainConfig, rank: int = 0, ranks: int = 1) -> None:
        self._dataset = dataset
        self._images = dataset.train_images
        self._train = train
        self._config: DetectionConfig = train.detection
        self._rank, self._ranks = rank, ranks
        self.steps = epoch_length(len(self._images), train)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """All batches of an epoch, counted from 0, in random order, of sizes that change now and then."""
        size = self._train.batch_size
        order = self._order(self.steps * size, derive_seed(self._train.seed, "shuffle", epoch))
        mixes = epoch < self._train.epochs - self._config.no_mixup_epochs

        def draws(step: int) -> list[_Draw]:
            height, width = self._size(epoch * self.steps + step)
            own = size // self._ranks
            first = step * size + self._rank * own
            places = range(first, first + own)
            seeds = (derive_seed(self._train.seed, "view", epoch, place) for place in places)
            return [
                _Draw(int(order[place]), seed, height, width, mixes)
                for place, seed in zip(places, seeds, strict=True)
            ]

        for samples in self._render(draws(step) for step in range(self.steps)):
            yield self._batch(samples)

    def calibration(self, count: int) -> Iterator[Tensor]:
        """The same random images in every call, varied, of the network's own size, float [N, C, H, W].

        They are at most `count`, in batches of training size; a smaller last batch is left out.
        """
        size, seed = self._train.batch_size, derive_seed(self._train.seed, "calibration")
        count = calibration_length(len(self._images), count, size)
        _, height, width = self._dataset.input_shape
        order = self._order(count, seed)
        draws = [
            _Draw(int(index), derive_seed(seed, "view", int(index)), height, width, False) for index in order
        ]
        for samples in self._render(draws[start : start + size] for start in range(0, count, size)):
            yield self._batch(samples).images

    def _size(self, step: int) -> tuple[int, int]:
        """(height, width) of the images in a step, counted over all epochs."""
        if not self._config.sizes:
            return self._dataset.input_shape[1:]
        seed = derive_seed(self._train.seed, "size", step // self._config.size_every)
        side = self._config.sizes[int(np.random.default_rng(seed).integers(len(self._config.sizes)))]
        return side, side

    def _order(self, count: int, seed: int) -> npt.NDArray[np.int64]:
        """`count` indices of images: none comes again before all others have come as often."""
        generator, images = np.random.default_rng(seed), len(self._images)
        orders = [generator.permutation(images) for _ in range(-(-count // images))]
        indices: npt.NDArray[np.int64] = np.concatenate([np.empty(0, np.int64), *orders])
        return indices[:count]

    def _render(self, batches: Iterable[list[_Draw]]) -> Iterator[list[Sample]]:
        waiting: deque[list[Future[Sample]]] = deque()
        with ThreadPoolExecutor(processors()) as pool:
            try:
                for draws in batches:
                    waiting.append([pool.submit(self._sample, draw) for draw in draws])
                    if len(waiting) > _AHEAD:
                        yield [sample.result() for sample in waiting.popleft()]
                while waiting:
                    yield [sample.result() for sample in waiting.popleft()]
            finally:
                pool.shutdown(cancel_futures=True)

    def _sample(self, draw: _Draw) -> Sample:
        generator = np.random.default_rng(draw.seed)
        pixels, rows = self._varied(self._images[draw.index], draw, generator)
        if not draw.mixes or generator.random() >= self._config.mixup:
            return pixels, rows
        share = np.float32(generator.beta(_MIXUP, _MIXUP))
        other = self._images[int(generator.integers(len(self._images)))]
        other_pixels, other_rows = self._varied(other, draw, generator)
        blended = (share * pixels + (1 - share) * other_pixels).round().astype(np.uint8)
        rows[:, -1], other_rows[:, -1] = share, 1 - share
        return blended, np.concatenate([rows, other_rows])

    def _varied(self, image: AnnotatedImage, draw: _Draw, generator: np.random.Generator) -> Sample:
        view = draw_view(image.boxes, self._config, generator)
        pixels, boxes, classes = render(image, view, draw.height, draw.width)
        sizes = boxes[:, 2:] - boxes[:, :2]
        ones = np.ones((len(boxes), 1), np.float32)
        return pixels, np.concatenate(
            [classes[:, None].astype(np.float32), boxes[:, :2] + sizes / 2, sizes, ones], axis=1
        )

    def _batch(self, samples: list[Sample]) -> Batch:
        boxes = max(1, *(len(rows) for _, rows in samples))
        labels = torch.full((len(samples), boxes, BOX_COLUMNS), -1.0)
        for label, (_, rows) in zip(labels, samples, strict=True):
            label[: len(rows)] = torch.from_numpy(rows)
        device = self._train.device
        pixels = torch.from_numpy(np.stack([pixels for pixels, _ in samples])).to(device)
        return Batch(normalise(pixels, self._dataset.mean, self._dataset.std), labels.to(device))
