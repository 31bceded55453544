"""Random changes of brightness, contrast and saturation."""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.augment import pixels
from trainer.config import JitterConfig


def colour_jitter(images: Tensor, config: JitterConfig, generator: torch.Generator) -> Tensor:
    """Scale brightness, contrast and saturation of images uint8 [N, H, W, C] by a factor of each image's own.

    Factors are uniform in max(0, 1 - value)..1 + value, the order is drawn for the whole batch. `generator`
    is a CPU generator, of which nothing is taken where all values are 0.
    """
    operations = [
        (operation, value)
        for operation, value in (
            (pixels.brightness, config.brightness),
            (pixels.contrast, config.contrast),
            (pixels.color, config.saturation),
        )
        if value
    ]
    if not operations:
        return images
    for index in torch.randperm(len(operations), generator=generator).tolist():
        operation, value = operations[index]
        low = max(0.0, 1 - value)
        factors = low + (1 + value - low) * torch.rand(len(images), generator=generator)
        images = operation(images, factors.to(images.device))
    return images
