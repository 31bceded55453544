"""Variations of training images that come after cropping: policies on pixels, mixing on batches."""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.augment.mixing import cutmix, mixup, soft_labels
from trainer.augment.policies import (
    CIFAR10_POLICY,
    CIFAR_TRANSLATE,
    IMAGENET_POLICY,
    AutoAugment,
    Policy,
    RandAugment,
)
from trainer.config import AugmentConfig

__all__ = ["Augmentation", "cutmix", "make_policy", "mixup", "soft_labels"]


class Augmentation:
    """What `[data.augment]` wants, for batches of any source. Generators are CPU generators.

    All random numbers come from the generator that is given, and are the same for every device.
    """

    def __init__(self, config: AugmentConfig, classes: int) -> None:
        self._config = config
        self._classes = classes
        self._policy = make_policy(config)

    def vary(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Apply the policy to images uint8 [N, H, W, C]."""
        return images if self._policy is None else self._policy(images, generator)

    def mix(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mix images float [N, C, H, W] with labels int64 [N].

        The labels become shares of classes, float32 [N, classes]. Without Mixup and CutMix, both stay.
        """
        config = self._config
        if not config.mixup and not config.cutmix:
            return images, labels
        shares = soft_labels(labels, self._classes)
        by_mixup = not config.cutmix
        if config.mixup and config.cutmix:
            by_mixup = bool(torch.rand((), generator=generator) < 0.5)
        if by_mixup:
            return mixup(images, shares, config.mixup, generator)
        return cutmix(images, shares, config.cutmix, generator)


def make_policy(config: AugmentConfig) -> Policy | None:
    """The policy that a configuration names, None for none."""
    match config.policy:
        case "randaugment":
            return RandAugment(config.operations, config.magnitude)
        case "autoaugment_imagenet":
            return AutoAugment(IMAGENET_POLICY)
        case "autoaugment_cifar10":
            return AutoAugment(CIFAR10_POLICY, CIFAR_TRANSLATE)
        case None:
            return None
