"""Datasets, held as uint8 arrays, and their batches."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from trainer.config import DataConfig
from trainer.data import digits, fashion_mnist, npz
from trainer.data.dataset import Dataset, Samples, check, hold_out, normalise, resize, statistics
from trainer.data.registry import DATASETS, DatasetAbsentError

__all__ = ["DATASETS", "Dataset", "DatasetAbsentError", "Samples", "load_dataset", "normalise"]

DATASETS.register("fashion_mnist", fashion_mnist.load)
DATASETS.register("digits", digits.load)
DATASETS.register("npz", npz.load)

_log = logging.getLogger(__name__)
_HOLD_OUT_SEED = 937_162_211


def load_dataset(config: DataConfig) -> Dataset:
    """Load what `config` names: checked, limited and at the resolution it wants.

    Where the dataset is absent and `config.fallback` names another, that one is used, with a warning.
    Raises ConfigError for an unknown name, absent or damaged files, and shapes or labels that do not agree.
    """
    try:
        samples = DATASETS.get(config.name)(config)
    except DatasetAbsentError as error:
        if config.fallback is None:
            raise
        _log.warning("using dataset %s instead: %s", config.fallback, error)
        config = config.model_copy(update={"name": config.fallback, "path": None})
        samples = DATASETS.get(config.name)(config)
    config = config.model_copy(update={"fallback": None})
    check(
        samples, f"dataset {config.name}" if config.path is None else f"dataset {config.name} ({config.path})"
    )
    if config.validation:
        samples = hold_out(samples, config.validation, np.random.default_rng(_HOLD_OUT_SEED))
    height, width = samples.train_images.shape[1:3]
    if config.resolution is not None:
        height, width = (config.resolution,) * 2 if isinstance(config.resolution, int) else config.resolution
    samples = replace(
        samples,
        train_images=resize(samples.train_images[: config.train_limit], height, width),
        train_labels=samples.train_labels[: config.train_limit],
        test_images=resize(samples.test_images[: config.test_limit], height, width),
        test_labels=samples.test_labels[: config.test_limit],
    )
    mean, std = statistics(samples.train_images)
    return Dataset(**vars(samples), config=config, mean=mean, std=std)
