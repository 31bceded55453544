"""Arrays that take long to find and are kept for the next time."""

from __future__ import annotations

import hashlib
import logging
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common import files

Arrays = dict[str, npt.NDArray[Any]]

_log = logging.getLogger(__name__)


def cached(purpose: str, inputs: Iterable[Path], find: Callable[[], Arrays]) -> Arrays:
    """What `find` gives, kept in the user's cache folder, if any, until an input changes its size or time."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinyboost"
    except RuntimeError:
        _log.warning("no home folder: nothing is kept for the next time: set XDG_CACHE_HOME to a folder")
        return find()
    digest = hashlib.sha256(purpose.encode())
    for path in inputs:
        state = path.stat()
        digest.update(f"\0{path.resolve()}\0{state.st_size}\0{state.st_mtime_ns}".encode())
    kept = folder / f"{purpose}-{digest.hexdigest()[:32]}.npz"
    try:
        with np.load(kept, allow_pickle=False) as found:
            return dict(found)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
        arrays = find()
    try:
        with files.atomic_path(kept) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)
    except OSError as error:
        _log.warning("%s can't be kept for the next time: %s", kept, error.strerror)
    return arrays
