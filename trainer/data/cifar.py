"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): the "python" layout (pickles) and the "binary" one."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from common.errors import ConfigError
from trainer.config import DataConfig
from trainer.data.dataset import Images, Labels, Samples
from trainer.data.folders import need_folder
from trainer.data.registry import DatasetAbsentError

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE


@dataclass(frozen=True)
class Layout:
    """Where the files of a dataset are and what is in them.

    `files` are (name without ending, images) of the training files; `label_bytes` precede each image in the
    binary layout, of which the last is the label.
    """

    folders: tuple[str, str]
    files: tuple[tuple[str, int], ...]
    test_file: tuple[str, int]
    label_key: str
    label_bytes: int
    meta_file: str
    names_key: str
    names_file: str


CIFAR10 = Layout(
    folders=("cifar-10-batches-py", "cifar-10-batches-bin"),
    files=tuple((f"data_batch_{number}", 10_000) for number in range(1, 6)),
    test_file=("test_batch", 10_000),
    label_key="labels",
    label_bytes=1,
    meta_file="batches.meta",
    names_key="label_names",
    names_file="batches.meta.txt",
)
CIFAR100 = Layout(
    folders=("cifar-100-python", "cifar-100-binary"),
    files=(("train", 50_000),),
    test_file=("test", 10_000),
    label_key="fine_labels",
    label_bytes=2,
    meta_file="meta",
    names_key="fine_label_names",
    names_file="fine_label_names.txt",
)


def load_cifar10(config: DataConfig) -> Samples:
    """Load CIFAR-10 in either layout from `config.path`, or from its usual folder in there.

    Raises DatasetAbsentError where there are no such files, ConfigError for damaged ones.
    """
    return load(config, CIFAR10)


def load_cifar100(config: DataConfig) -> Samples:
    """Load CIFAR-100 with its 100 fine labels, as `load_cifar10` does."""
    return load(config, CIFAR100)


def load(config: DataConfig, layout: Layout) -> Samples:
    """Load a dataset of this layout; errors as in `load_cifar10`."""
    folder, binary = _find(need_folder(config, f"{' or '.join(layout.folders)}, unpacked"), layout)
    read = _read_binary if binary else _read_python
    parts = [read(folder, name, images, layout) for name, images in (*layout.files, layout.test_file)]
    train_images = np.concatenate([images for images, _ in parts[:-1]])
    train_labels = np.concatenate([labels for _, labels in parts[:-1]])
    names = _binary_names(folder, layout) if binary else _python_names(folder, layout)
    return Samples(train_images, train_labels, *parts[-1], names)


def _find(folder: Path, layout: Layout) -> tuple[Path, bool]:
    """The folder with the files, and whether they are binary."""
    first = layout.files[0][0]
    for candidate in (folder, *(folder / name for name in layout.folders)):
        for binary, name in ((False, first), (True, f"{first}.bin")):
            if (candidate / name).is_file():
                return candidate, binary
    raise DatasetAbsentError(
        f"{folder}: neither {first} nor {first}.bin is here or in {' or '.join(layout.folders)}: "
        "set data.path to the folder of the unpacked archive"
    )


def _read_binary(folder: Path, name: str, images: int, layout: Layout) -> tuple[Images, Labels]:
    path = folder / f"{name}.bin"
    data = _read(path)
    record = layout.label_bytes + _PIXELS
    if len(data) != images * record:
        raise ConfigError(
            f"{path}: damaged: {len(data)} bytes, but {images} images have {images * record}: fetch it anew"
        )
    records = np.frombuffer(data, np.uint8).reshape(images, record)
    labels = records[:, layout.label_bytes - 1].astype(np.int64)
    return _images(records[:, layout.label_bytes :]), labels


def _read_python(folder: Path, name: str, images: int, layout: Layout) -> tuple[Images, Labels]:
    path = folder / name
    content = _unpickle(path)
    pixels, labels = content.get("data"), content.get(layout.label_key)
    if not isinstance(pixels, np.ndarray) or pixels.shape != (images, _PIXELS):
        raise ConfigError(f"{path}: damaged: 'data' is no array of {images} x {_PIXELS} bytes: fetch it anew")
    if (
        not isinstance(labels, list)
        or len(labels) != images
        or not all(isinstance(label, int) and 0 <= label < 256 for label in labels)
    ):
        raise ConfigError(
            f"{path}: damaged: {layout.label_key!r} is no list of {images} labels: fetch it anew"
        )
    return _images(pixels), np.array(labels, np.int64)


def _images(planes: npt.NDArray[np.uint8]) -> Images:
    """Bytes [N, 3072], red, green and blue after each other, to images [N, 32, 32, 3]."""
    return np.ascontiguousarray(planes.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1))


def _binary_names(folder: Path, layout: Layout) -> tuple[str, ...]:
    path = folder / layout.names_file
    return tuple(line for line in _read(path).decode("utf-8", "replace").split("\n") if line.strip())


def _python_names(folder: Path, layout: Layout) -> tuple[str, ...]:
    path = folder / layout.meta_file
    names = _unpickle(path).get(layout.names_key)
    if not isinstance(names, list) or not all(isinstance(name, str | bytes) for name in names):
        raise ConfigError(f"{path}: damaged: {layout.names_key!r} is no list of names: fetch it anew")
    return tuple(_text(name) for name in names)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DatasetAbsentError(f"{path} is absent: unpack the whole archive") from error
    except OSError as error:
        raise ConfigError(f"{path}: unreadable ({error.strerror})") from error


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _unpickle(path: Path) -> dict[str, Any]:
    """The dictionary in a file, its arrays of bytes as NumPy arrays; runs nothing that the file names."""
    data = _read(path)
    try:
        content = _Unpickler(io.BytesIO(data), encoding="bytes").load()
        if not isinstance(content, dict):
            raise ValueError("it holds no dictionary")
        return {
            _text(key): value.array() if isinstance(value, _Array) else value
            for key, value in content.items()
        }
    except Exception as error:  # damaged bytes make pickle raise nearly everything
        raise ConfigError(
            f"{path}: damaged, or no CIFAR file ({type(error).__name__}): fetch it anew"
        ) from error


class _Type:
    """Stands for numpy.dtype; the only one in these files is the unsigned byte."""

    def __init__(self, code: Any, *_: Any) -> None:
        if _text(code) != "u1":
            raise ValueError("an array is not of bytes")

    def __setstate__(self, state: Any) -> None:
        pass


class _Array:
    """Stands for a NumPy array until all is read."""

    def __init__(self, *_: Any) -> None:
        self._shape: tuple[int, ...] = ()
        self._data = b""

    def __setstate__(self, state: Any) -> None:
        _version, self._shape, _type, column_major, self._data = state
        if not isinstance(_type, _Type) or not isinstance(self._data, bytes):
            raise ValueError("an array is not of bytes")
        if column_major:
            self._data = np.frombuffer(self._data, np.uint8).reshape(self._shape, order="F").tobytes()

    def array(self) -> npt.NDArray[np.uint8]:
        return np.frombuffer(self._data, np.uint8).reshape(self._shape)


def _encode(text: str, _encoding: str) -> bytes:
    return text.encode("latin1")


class _Unpickler(pickle._Unpickler):
    """Knows the three names in these files, and gives them harmless meanings.

    The pure Python unpickler: unlike the one in C, it does not allocate what a damaged file claims.
    """

    _KNOWN: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): _Array,
        ("numpy._core.multiarray", "_reconstruct"): _Array,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Type,
        ("_codecs", "encode"): _encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Look a name up; raises pickle.UnpicklingError for all others."""
        try:
            return self._KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} does not belong here") from None
