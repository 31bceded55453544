"""Images and labels of one's own, in one .npz file."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import ConfigError, first_line
from trainer.config import DataConfig
from trainer.data.dataset import Samples, numbered_classes

_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")

# What numpy and zipfile raise on damaged bytes; RuntimeError: encrypted, or an unsupported kind of zip.
_READ_ERRORS = (
    OSError, EOFError, ValueError, TypeError, RuntimeError, MemoryError, SyntaxError, KeyError, OverflowError,
    tokenize.TokenError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def load(config: DataConfig) -> Samples:
    """Load `config.path`: train_images and test_images uint8 [N, H, W, C], train_labels and test_labels [N].

    `class_names` [classes] is optional: without it, classes are named by their numbers. Raises ConfigError
    for a missing or damaged file or array.
    """
    if config.path is None:
        raise ConfigError("data.path is missing: dataset npz needs the path of an .npz file")
    path: Path = config.path
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in _ARRAYS if name not in file.files]
            if missing:
                raise ConfigError(f"{path}: array {missing[0]!r} is missing; needed are {', '.join(_ARRAYS)}")
            arrays = {name: file[name] for name in _ARRAYS}
            names = file["class_names"] if "class_names" in file.files else None
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file: set data.path to an .npz file") from error
    except _READ_ERRORS as error:
        raise ConfigError(f"{path}: damaged, or no .npz file ({first_line(error)}): write it anew") from error
    for name in ("train_labels", "test_labels"):
        if not np.issubdtype(arrays[name].dtype, np.integer):
            raise ConfigError(f"{path}: {name} must hold integers; it holds {arrays[name].dtype}")
        arrays[name] = arrays[name].astype(np.int64)
    train_labels = arrays["train_labels"]
    class_names = numbered_classes(train_labels, path) if names is None else _texts(names, path)
    return Samples(
        arrays["train_images"],
        train_labels,
        arrays["test_images"],
        arrays["test_labels"],
        class_names,
    )


def _texts(names: npt.NDArray[Any], path: Path) -> tuple[str, ...]:
    """The names in an array [classes] of texts, or of bytes in UTF-8."""
    if names.ndim != 1:
        raise ConfigError(f"{path}: class_names must be one row of names; it is {list(names.shape)}")
    return tuple(
        name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names.tolist()
    )
