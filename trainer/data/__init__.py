"""Datasets and their batches."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from common.errors import ConfigError
from trainer.config import DataConfig
from trainer.data import cifar, digits, image_folder, mnist, npz, speech_commands, webdataset
from trainer.data.dataset import (
    Dataset,
    Samples,
    as_pixels,
    check,
    check_names,
    choose_statistics,
    describe,
    hold_out,
    normalise,
    resize,
)
from trainer.data.memory import MemoryDataset
from trainer.data.records import EncodedSamples
from trainer.data.registry import DATASETS, DatasetAbsentError
from trainer.data.stream import make_streamed
from trainer.data.variation import refuse_for_features

__all__ = ["DATASETS", "Dataset", "DatasetAbsentError", "Samples", "as_pixels", "load_dataset", "normalise"]

DATASETS.register("fashion_mnist", mnist.load_fashion_mnist)
DATASETS.register("mnist", mnist.load)
DATASETS.register("digits", digits.load)
DATASETS.register("cifar10", cifar.load_cifar10)
DATASETS.register("cifar100", cifar.load_cifar100)
DATASETS.register("image_folder", image_folder.load)
DATASETS.register("webdataset", webdataset.load)
DATASETS.register("speech_commands", speech_commands.load)
DATASETS.register("npz", npz.load)

_log = logging.getLogger(__name__)
_HOLD_OUT_SEED = 937_162_211


def load_dataset(config: DataConfig) -> Dataset:
    """Load what `config` names: checked, limited and at the resolution it wants.

    Of images with boxes, the labels are -1: these are for detectors (`trainer.detection`).

    Where the dataset is absent and `config.fallback` names another, that one is used, with a warning.
    Raises ConfigError for an unknown name, absent or damaged files, and shapes or labels that do not agree.
    """
    from trainer.detection import DETECTION_DATASETS, load_detection  # which itself needs this package

    if config.name in DETECTION_DATASETS.names():
        return load_detection(config)
    try:
        samples = DATASETS.get(config.name)(config)
    except DatasetAbsentError as error:
        if config.fallback is None:
            raise
        _log.warning("using dataset %s instead: %s", config.fallback, error)
        config = config.model_copy(update={"name": config.fallback, "path": None})
        samples = DATASETS.get(config.name)(config)
    config = config.model_copy(update={"fallback": None})
    check_names(samples.class_names, describe(config))
    random = np.random.default_rng(_HOLD_OUT_SEED)
    if isinstance(samples, EncodedSamples):
        return make_streamed(samples, config, random)
    if config.stream:
        raise ConfigError(f"data.stream is for image_folder; dataset {config.name} is held in memory")
    return _in_memory(samples, config, random)


def _in_memory(samples: Samples, config: DataConfig, random: np.random.Generator) -> MemoryDataset:
    check(samples, describe(config))
    if samples.train_images.dtype != np.uint8:
        refuse_for_features(config)
    if config.validation:
        samples = hold_out(samples, config.validation, random)
    height, width = config.size or samples.train_images.shape[1:3]
    samples = replace(
        samples,
        train_images=resize(samples.train_images[: config.train_limit], height, width),
        train_labels=samples.train_labels[: config.train_limit],
        test_images=resize(samples.test_images[: config.test_limit], height, width),
        test_labels=samples.test_labels[: config.test_limit],
        validation=None,
    )
    mean, std = choose_statistics(config, samples.train_images)
    return MemoryDataset(**vars(samples), config=config, mean=mean, std=std)
