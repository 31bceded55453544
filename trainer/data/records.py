"""Encoded images that stay in their files until they are needed: whole files, or pieces of tar files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import ConfigError
from trainer.data.dataset import Labels
from trainer.data.images import EncodedImage

_TAR_HEADER, _TAR_NAME = 512, 100  # bytes of the header in front of a piece, and of the name in it


@dataclass(frozen=True)
class Records:
    """N images: image i is `sizes[i]` bytes from `offsets[i]` on of the file `files[places[i]]`.

    `sizes` -1 means the whole file. `mixed` is how many neighbours are put in random order with each other,
    after the files have been, so that reading stays within a few files; None mixes all.
    """

    files: tuple[Path, ...]
    places: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    labels: Labels
    mixed: int | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Labels) -> Records:
        """Some of the images."""
        return replace(
            self,
            places=self.places[indices],
            offsets=self.offsets[indices],
            sizes=self.sizes[indices],
            labels=self.labels[indices],
        )

    def first(self, count: int | None) -> Records:
        """The first `count` images, None for all."""
        return self.take(np.arange(len(self))[:count])

    def spread(self, count: int) -> Labels:
        """Indices of up to `count` images from all over, always the same, in their order."""
        return np.sort(np.random.default_rng(0).permutation(len(self))[:count])

    def open(self, index: int) -> EncodedImage:
        """Read an image; raises ConfigError, naming it, where it is damaged."""
        path, size, offset = self.files[self.places[index]], int(self.sizes[index]), int(self.offsets[index])
        name = str(path)
        try:
            with path.open("rb") as file:
                if size < 0:
                    data = file.read()
                else:
                    file.seek(offset - _TAR_HEADER)
                    piece = file.read(_TAR_HEADER + size)
                    name += ": " + piece[:_TAR_NAME].split(b"\0")[0].decode("utf-8", "replace")
                    data = piece[_TAR_HEADER:]
        except OSError as error:
            raise ConfigError(f"{path}: unreadable ({error.strerror})") from error
        return EncodedImage(data, name)

    def order(self, random: np.random.Generator) -> Labels:
        """Indices of all images in a random order."""
        count = len(self)
        if self.mixed is None or self.mixed >= count:
            return random.permutation(count)
        rank = random.permutation(len(self.files))
        order = np.argsort(rank[self.places], kind="stable")
        for start in range(0, count, self.mixed):
            random.shuffle(order[start : start + self.mixed])
        return order


@dataclass(frozen=True)
class EncodedSamples:
    """What a source gives whose images are decoded as they are needed."""

    train: Records
    test: Records
    class_names: tuple[str, ...]


def whole_files(files: list[tuple[Path, int]]) -> Records:
    """The records of image files with their labels."""
    count = len(files)
    return Records(
        files=tuple(path for path, _ in files),
        places=np.arange(count),
        offsets=np.zeros(count, np.int64),
        sizes=np.full(count, -1, np.int64),
        labels=np.array([label for _, label in files], np.int64),
    )
