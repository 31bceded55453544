"""Images in class folders: train/<class>/... and val/<class>/... or test/<class>/..."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from common.errors import ConfigError
from trainer.config import DataConfig
from trainer.data.channels import choose_channels
from trainer.data.dataset import Images, Samples
from trainer.data.folders import class_folders, files_below, need_folder, run_threads, shuffled
from trainer.data.images import SUFFIXES
from trainer.data.records import EncodedSamples, Records, whole_files
from trainer.data.registry import DatasetAbsentError

File = tuple[Path, int]
"""An image and its label."""


def load(config: DataConfig) -> Samples | EncodedSamples:
    """Load all images below `config.path`, stretched to `config.resolution`; None needs equal sizes.

    With `config.stream`, none is decoded yet. The classes are the folders in train/, sorted. Images are RGB
    unless all are grey. Raises DatasetAbsentError where there are no such folders, ConfigError for a damaged
    image.
    """
    class_names, train_files, test_files = list_files(config)
    train, test = whole_files(train_files), whole_files(test_files)
    if config.stream:
        return EncodedSamples(train, test, class_names)
    if not config.validation:
        train, test = train.first(config.train_limit), test.first(config.test_limit)
    channels = choose_channels(train)
    width, height = train.open(0).size
    size = config.size or (height, width)
    return Samples(
        _decode(train, size, channels, config.size is None),
        train.labels,
        _decode(test, size, channels, config.size is None),
        test.labels,
        class_names,
    )


def list_files(config: DataConfig) -> tuple[tuple[str, ...], list[File], list[File]]:
    """The class names, and all training and all test images, in a random order that is always the same."""
    folder = need_folder(config, "train/<class>/ and val/<class>/ (or test/<class>/)")
    test_folder = folder / ("val" if (folder / "val").is_dir() else "test")
    for path in (folder / "train", test_folder):
        if not path.is_dir():
            raise DatasetAbsentError(
                f"{path}: no such folder: {folder} must hold train/ and val/ (or test/) with a folder of "
                "images for each class"
            )
    class_names = class_folders(folder / "train")
    if not class_names:
        raise ConfigError(f"{folder / 'train'}: holds no class folders")
    unknown = sorted(set(class_folders(test_folder)) - set(class_names))
    if unknown:
        raise ConfigError(f"{test_folder / unknown[0]}: class {unknown[0]!r} has no folder in train/")
    train, test = _list(folder / "train", class_names), _list(test_folder, class_names)
    known = {label for _, label in train}
    empty = [folder / "train" / name for label, name in enumerate(class_names) if label not in known]
    if empty or not test:
        raise ConfigError(
            f"{empty[0] if empty else test_folder}: holds no images ({', '.join(sorted(SUFFIXES))}): "
            "put some there, or remove the folder"
        )
    return class_names, train, test


def _list(folder: Path, class_names: tuple[str, ...]) -> list[File]:
    return shuffled(
        [
            (path, label)
            for label, name in enumerate(class_names)
            for path in files_below(folder / name, SUFFIXES)
        ]
    )


def _decode(records: Records, size: tuple[int, int], channels: int, exact: bool) -> Images:
    images = np.empty((len(records), *size, channels), np.uint8)

    def work(index: int) -> None:
        image = records.open(index)
        if exact and image.size != size[::-1]:
            path = records.files[records.places[index]]
            raise ConfigError(
                f"{path}: is {image.size[0]}x{image.size[1]}, others are {size[1]}x{size[0]}: "
                "set data.resolution to resize all"
            )
        images[index] = image.decode(channels, size)

    for _ in run_threads(work, range(len(records))):
        pass
    return images
