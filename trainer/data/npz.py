"""Images and labels of one's own, in one .npz file."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from common.errors import ConfigError
from trainer.config import DataConfig
from trainer.data.dataset import Samples

_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")

# What numpy and zipfile raise on damaged bytes; RuntimeError: encrypted, or an unsupported kind of zip.
_READ_ERRORS = (
    OSError, EOFError, ValueError, TypeError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error
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
            names = [str(name) for name in file["class_names"]] if "class_names" in file.files else None
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file: set data.path to an .npz file") from error
    except _READ_ERRORS as error:
        raise ConfigError(f"{path}: damaged, or no .npz file: {error}") from error
    for name in ("train_labels", "test_labels"):
        if not np.issubdtype(arrays[name].dtype, np.integer):
            raise ConfigError(f"{path}: {name} must hold integers; it holds {arrays[name].dtype}")
        arrays[name] = arrays[name].astype(np.int64)
    if names is None:
        names = [str(label) for label in range(int(arrays["train_labels"].max(initial=0)) + 1)]
    return Samples(
        arrays["train_images"],
        arrays["train_labels"],
        arrays["test_images"],
        arrays["test_labels"],
        tuple(names),
    )
