"""What earlier trainings left, where a configuration names them."""

from __future__ import annotations

from pathlib import Path

from common.errors import ConfigError


def earlier_file(folder: Path, name: str, key: str) -> Path:
    """Path of the file `name` in the train/ folder of a run, which `key` of the configuration names.

    Raises ConfigError where it is missing.
    """
    path = folder / name
    if not folder.is_dir():
        raise ConfigError(f"{key}: {folder}: no such folder: give the train/ folder of a run")
    if not path.is_file() and (folder / "train" / name).is_file():
        raise ConfigError(f"{key}: {folder} is a run's folder: give {folder / 'train'}")
    if not path.is_file():
        raise ConfigError(f"{key}: {path} is missing: give the train/ folder of a run that wrote one")
    return path
