"""The datasets a configuration can name."""

from __future__ import annotations

from collections.abc import Callable

from common.errors import ConfigError
from trainer.config import DataConfig
from trainer.data.dataset import Samples
from trainer.data.records import EncodedSamples
from trainer.registry import Registry

DATASETS: Registry[Callable[[DataConfig], Samples | EncodedSamples]] = Registry("dataset")
"""Dataset name -> function that loads it, into memory or to be decoded as it is needed."""


class DatasetAbsentError(ConfigError):
    """The dataset is not on this machine, but `data.fallback` may be."""
