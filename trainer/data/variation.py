"""How training images become batches: varied, normalised and mixed, as a configuration says."""

from __future__ import annotations

import torch
from torch import Tensor

from common.errors import ConfigError
from trainer.augment import Augmentation
from trainer.augment.crops import resized_crops, shift_and_mirror
from trainer.augment.jitter import colour_jitter
from trainer.config import DataConfig
from trainer.data.batches import Batch
from trainer.data.dataset import Dataset, normalise


class Variation:
    """Makes batches of images [N, H, W, C] and labels int64 [N], on the device that these are on.

    All random numbers come from the generator that is given, a CPU generator.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._config = dataset.config
        self._mean, self._std = dataset.mean, dataset.std
        self._augmentation = Augmentation(dataset.config.augment, len(dataset.class_names))

    def __call__(
        self, images: Tensor, labels: Tensor, generator: torch.Generator, *, cropped: bool = False
    ) -> Batch:
        """One batch; `cropped`: the images are random crops already."""
        config = self._config
        if config.crop_scale is not None and not cropped:
            images = resized_crops(images, config.crop_scale, generator)
        images = shift_and_mirror(images, config.crop_padding, config.flip, generator)
        images = colour_jitter(images, config.jitter, generator)
        images = self._augmentation.vary(images, generator)
        values, labels = self._augmentation.mix(normalise(images, self._mean, self._std), labels, generator)
        return Batch(values, labels)


def refuse_for_features(config: DataConfig) -> None:
    """Raise ConfigError for a setting that varies pixels."""
    jitter = config.jitter
    for name, wanted in (
        ("crop_padding", config.crop_padding),
        ("crop_scale", config.crop_scale),
        ("flip", config.flip),
        ("jitter", jitter.brightness or jitter.contrast or jitter.saturation),
        ("augment.policy", config.augment.policy),
    ):
        if wanted:
            raise ConfigError(f"data.{name} is for images; dataset {config.name} gives features: remove it")
