"""MNIST and its family (Fashion-MNIST, KMNIST, EMNIST, ...) from their four IDX files, gzipped or not."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import ConfigError
from trainer.config import DataConfig
from trainer.data.dataset import Samples, numbered_classes
from trainer.data.folders import need_folder, read_class_names
from trainer.data.registry import DatasetAbsentError

FASHION_DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FASHION_DEBIAN_PACKAGE = "dataset-fashion-mnist"
FASHION_CLASS_NAMES = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip

_UNSIGNED_BYTE = 0x08
_PARTS = (("train",), ("t10k", "test"))


def load(config: DataConfig) -> Samples:
    """Load the four IDX files in `config.path`; classes.txt there names the classes, else numbers do.

    Raises DatasetAbsentError where there are no such files, ConfigError for damaged ones.
    """
    folder = need_folder(config, "the four IDX files (train-images-idx3-ubyte.gz, ...)")
    return _load(_files(folder, "put the four IDX files there, gzipped or not"), read_class_names(folder))


def load_fashion_mnist(config: DataConfig) -> Samples:
    """Load Fashion-MNIST (Xiao et al., 2017) from `config.path`, or from where Debian's package puts it.

    Raises DatasetAbsentError where there are no such files, ConfigError for damaged ones.
    """
    return _load(_fashion_mnist_files(config), FASHION_CLASS_NAMES)


def find_fashion_mnist(config: DataConfig) -> None:
    """Raise DatasetAbsentError where `load_fashion_mnist` would miss a file; reads none."""
    _fashion_mnist_files(config)


def _fashion_mnist_files(config: DataConfig) -> list[Path]:
    hint = (
        f"install it (sudo apt install {FASHION_DEBIAN_PACKAGE}), "
        'set data.path to a folder with the four IDX files, or use data.name = "digits"'
    )
    return _files(config.path or FASHION_DEBIAN_FOLDER, hint)


def _load(files: list[Path], class_names: tuple[str, ...] | None) -> Samples:
    train_images, test_images = (read_idx(path, axes=3)[..., np.newaxis] for path in files[::2])
    train_labels, test_labels = (read_idx(path, axes=1).astype(np.int64) for path in files[1::2])
    if class_names is None:
        class_names = numbered_classes(train_labels, files[1])
    return Samples(train_images, train_labels, test_images, test_labels, class_names)


def _files(folder: Path, hint: str) -> list[Path]:
    """Images and labels for training, images and labels for testing."""
    kinds = ("images-idx3", "labels-idx1")
    return [_find(folder, names, kind, hint) for names in _PARTS for kind in kinds]


def _find(folder: Path, names: tuple[str, ...], kind: str, hint: str) -> Path:
    """The one file of a part; its name may start with anything, as in emnist-letters-train-images-..."""
    endings = [f"{name}-{kind}-ubyte{suffix}" for name in names for suffix in (".gz", "")]
    for ending in endings:
        if (folder / ending).is_file():
            return folder / ending
    found = sorted(path for ending in endings for path in folder.glob(f"*-{ending}") if path.is_file())
    if len(found) > 1:
        raise ConfigError(f"{folder}: both {found[0].name} and {found[1].name} are there: keep one dataset")
    if found:
        return found[0]
    raise DatasetAbsentError(f"{folder / endings[0]} is absent: {hint}")


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
