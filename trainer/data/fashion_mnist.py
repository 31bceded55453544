"""Fashion-MNIST (Xiao et al., 2017) from its four IDX files, gzipped or not."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import ConfigError
from trainer.config import DataConfig
from trainer.data.dataset import Samples
from trainer.data.registry import DatasetAbsentError

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
DEBIAN_PACKAGE = "dataset-fashion-mnist"
CLASS_NAMES = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip

_UNSIGNED_BYTE = 0x08


def load(config: DataConfig) -> Samples:
    """Load from `config.path`, or from where Debian's package puts it.

    Raises DatasetAbsentError where there are no such files, ConfigError for damaged ones.
    """
    folder = config.path or DEBIAN_FOLDER
    images, labels = {}, {}
    for part in ("train", "t10k"):
        images[part] = read_idx(_find(folder, f"{part}-images-idx3-ubyte"), axes=3)[..., np.newaxis]
        labels[part] = read_idx(_find(folder, f"{part}-labels-idx1-ubyte"), axes=1).astype(np.int64)
    return Samples(images["train"], labels["train"], images["t10k"], labels["t10k"], CLASS_NAMES)


def _find(folder: Path, stem: str) -> Path:
    for path in (folder / f"{stem}.gz", folder / stem):
        if path.is_file():
            return path
    raise DatasetAbsentError(
        f"fashion_mnist: {folder / stem}.gz is absent: install it (sudo apt install {DEBIAN_PACKAGE}), "
        'set data.path to a folder with the four IDX files, or use data.name = "digits"'
    )


def read_idx(path: Path, axes: int) -> npt.NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes with `axes` dimensions; raises ConfigError where it is damaged."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{path}: damaged or unreadable ({error}): install or fetch it anew") from error
    header = 4 + 4 * axes
    if len(data) < header or data[:4] != bytes((0, 0, _UNSIGNED_BYTE, axes)):
        raise ConfigError(f"{path}: damaged: no IDX file of unsigned bytes with {axes} axes")
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", axes, 4))
    expected = header + int(np.prod(shape, dtype=object))
    if len(data) != expected:
        raise ConfigError(f"{path}: damaged: {len(data)} bytes, but its header says {expected}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape).copy()
