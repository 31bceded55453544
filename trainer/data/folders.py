"""Folders that hold a dataset: finding them, the names of their classes, and their files class by class."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn, TypeVar

import numpy as np

from common.errors import ConfigError
from trainer.config import DataConfig
from trainer.data.registry import DatasetAbsentError

CLASSES = "classes.txt"

_ORDER_SEED = 412_506_817

T = TypeVar("T")
R = TypeVar("R")


def need_folder(config: DataConfig, content: str) -> Path:
    """The folder at `config.path`; DatasetAbsentError, saying what it must hold, where there is none."""
    if config.path is None:
        raise DatasetAbsentError(f"data.path is missing: dataset {config.name} needs a folder with {content}")
    if not config.path.is_dir():
        raise DatasetAbsentError(f"{config.path}: no such folder: set data.path to a folder with {content}")
    return config.path


def read_class_names(folder: Path) -> tuple[str, ...] | None:
    """Names of the classes, one a line in classes.txt, None where there is no such file."""
    path = folder / CLASSES
    if not path.is_file():
        return None
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: unreadable ({error}): write one class name a line") from error
    return tuple(line.strip() for line in lines if line.strip())


def class_folders(folder: Path) -> tuple[str, ...]:
    """Names of the folders in `folder`, sorted; hidden ones are left out."""
    try:
        names = [path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError as error:
        raise ConfigError(f"{folder}: unreadable ({error.strerror})") from error
    return tuple(sorted(names))


def files_below(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Files with these endings, in either case, in `folder` and below, sorted; hidden ones are left out.

    There are none where there is no such folder. Raises ConfigError where one is unreadable.
    """
    found: list[Path] = []
    try:
        if folder.is_dir():
            for place, _, names in os.walk(folder, onerror=_raise):
                found += (Path(place, name) for name in names if not name.startswith("."))
    except OSError as error:
        raise ConfigError(f"{error.filename or folder}: unreadable ({error.strerror})") from error
    return sorted(path for path in found if path.suffix.lower() in suffixes)


def _raise(error: OSError) -> NoReturn:
    raise error


def shuffled(items: Sequence[T]) -> list[T]:
    """`items` in a random order, always the same, so that the first ones are of all classes."""
    order = np.random.default_rng(_ORDER_SEED).permutation(len(items))
    return [items[index] for index in order]


def run_threads(work: Callable[[T], R], items: Iterable[T], ahead: int = 256) -> Iterator[R]:
    """What `work` gives for each item, in order, done by as many threads as there are processors.

    No more than `ahead` items are under way or done and not taken yet.
    """
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(processors()) as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) >= ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
