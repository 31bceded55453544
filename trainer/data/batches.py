"""Batches of training images, and what prepares them in the background."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from queue import Full, Queue
from threading import Event, Thread
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from common.errors import ConfigError
from trainer.config import TrainConfig

T = TypeVar("T")


@dataclass(frozen=True)
class Batch:
    """Images float32 [N, C, H, W] and what is to be learnt of them.

    That are labels int64 [N], shares of classes float32 [N, classes], or boxes float32 [N, boxes, 6]: class,
    centre x, y, width and height as shares of the image, and weight, where class -1 is no box.
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


def epoch_length(images: int, train: TrainConfig) -> int:
    """Batches of an epoch; a last one that would be smaller is left out.

    Raises ConfigError where an epoch has fewer images than one batch takes.
    """
    count = train.images_per_epoch or images
    if count < train.batch_size:
        raise ConfigError(
            f"train.batch_size {train.batch_size} is more than the {count} images of an epoch: lower it"
        )
    return count // train.batch_size


def calibration_length(images: int, count: int, batch_size: int) -> int:
    """How many images calibrate: at most `count`, in whole batches, as a small one has poor statistics."""
    count = min(count, images)
    return count - count % batch_size if count > batch_size else count


def prefetch(batches: Iterator[T], ahead: int = 2) -> Iterator[T]:
    """The same items, which a thread prepares up to `ahead` of them before they are asked for.

    An error of the thread is raised where its item would have come.
    """
    ready: Queue[T | _End] = Queue(ahead)
    stop = Event()
    threads = torch.get_num_threads()

    def put(item: T | _End) -> bool:
        while not stop.is_set():
            with suppress(Full):
                ready.put(item, timeout=0.1)
                return True
        return False

    def work() -> None:
        torch.set_num_threads(threads)
        try:
            for batch in batches:
                if not put(batch):
                    return
            put(_End())
        except BaseException as error:
            put(_End(error))

    thread = Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while not isinstance(item := ready.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stop.set()
        thread.join()


@dataclass(frozen=True)
class _End:
    """Behind the last item; `error` is what ended them."""

    error: BaseException | None = None
