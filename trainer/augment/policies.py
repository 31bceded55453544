"""AutoAugment and RandAugment: random chains of operations, drawn for each image by itself.

Both go by the papers' tables of operations and ranges, read as torchvision reads them: a larger magnitude
is a stronger change, and those of enhancements, shears, translations and rotations have a random sign.
(The authors' own programs differ from the papers, and from each other, in the direction of Posterize,
Solarize and the enhancements.) The operations are ours, rather than a library's, since these draw from
torch's global generator and apply one operation to the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from trainer.augment import geometry, pixels

TRANSLATE = 150 / 331  # the papers' 150 pixels of images of 331x331, as a share of the side
CIFAR_TRANSLATE = 10 / 32  # the AutoAugment program's for CIFAR-10


class Policy(Protocol):
    """Varies images uint8 [N, H, W, C]; shape, dtype and device stay. `generator` is a CPU generator."""

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """A varied copy."""


@dataclass(frozen=True)
class Operation:
    """A change of images uint8 [N, H, W, C] by strengths float64 [N], on the CPU: 0..1, `signed` -1..1."""

    apply: Callable[[Tensor, Tensor], Tensor]
    signed: bool = False


def _enhance(change: Callable[[Tensor, Tensor], Tensor]) -> Operation:
    return Operation(lambda images, strength: change(images, 1.0 + 0.9 * strength), signed=True)


def _translate(share: float) -> dict[str, Operation]:
    return {
        "TranslateX": Operation(lambda i, s: geometry.translate_x(i, s * share * i.shape[2]), signed=True),
        "TranslateY": Operation(lambda i, s: geometry.translate_y(i, s * share * i.shape[1]), signed=True),
    }


OPERATIONS: dict[str, Operation] = {
    "Identity": Operation(lambda images, _: images),
    "AutoContrast": Operation(lambda images, _: pixels.autocontrast(images)),
    "Equalize": Operation(lambda images, _: pixels.equalize(images)),
    "Rotate": Operation(lambda images, s: geometry.rotate(images, 30.0 * s), signed=True),
    "Solarize": Operation(lambda images, s: pixels.solarize(images, 256.0 * (1.0 - s))),
    "Color": _enhance(pixels.color),
    "Posterize": Operation(lambda images, s: pixels.posterize(images, 8 - (4 * s).round().long())),
    "Contrast": _enhance(pixels.contrast),
    "Brightness": _enhance(pixels.brightness),
    "Sharpness": _enhance(pixels.sharpness),
    "ShearX": Operation(lambda images, s: geometry.shear_x(images, 0.3 * s), signed=True),
    "ShearY": Operation(lambda images, s: geometry.shear_y(images, 0.3 * s), signed=True),
    **_translate(TRANSLATE),
}
"""The 14 of RandAugment (Cubuk et al., NeurIPS 2020, section 3)."""

_AUTO_OPERATIONS = OPERATIONS | {"Invert": Operation(lambda images, _: pixels.invert(images))}


class RandAugment:
    """Random operations, as many as wanted one after the other, all of one magnitude out of 10.

    Cubuk et al., NeurIPS 2020. torchvision counts magnitudes out of 30: its 9 is 3 here.
    """

    def __init__(self, operations: int, magnitude: float) -> None:
        self._count = operations
        self._strength = magnitude / 10.0

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """A varied copy."""
        operations = list(OPERATIONS.values())
        strengths = torch.full((len(images),), self._strength, dtype=torch.float64)
        for _ in range(self._count):
            chosen = torch.randint(len(operations), (len(images),), generator=generator)
            images = _apply(images, operations, chosen, strengths, generator)
        return images


SubPolicy = tuple[tuple[str, float, int], tuple[str, float, int]]
"""Two operations in their order: name, probability, magnitude 0..9."""


class AutoAugment:
    """One of 25 sub-policies for each image: two operations, each with a probability and a magnitude.

    Cubuk et al., CVPR 2019: the policies found for ImageNet (appendix, table 9) and CIFAR-10 (table 7).
    """

    def __init__(self, policy: tuple[SubPolicy, ...], translate: float = TRANSLATE) -> None:
        operations = _AUTO_OPERATIONS | _translate(translate)
        self._operations = list(operations.values())
        names = list(operations)
        self._chosen = torch.tensor([[names.index(name) for name, _, _ in pair] for pair in policy])
        self._probabilities = torch.tensor([[probability for _, probability, _ in pair] for pair in policy])
        magnitudes = torch.tensor([[magnitude for _, _, magnitude in pair] for pair in policy])
        self._strengths = magnitudes.double() / 9.0

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """A varied copy."""
        pairs = torch.randint(len(self._chosen), (len(images),), generator=generator)
        for place in range(2):
            drawn = torch.rand(len(images), generator=generator) < self._probabilities[pairs, place]
            chosen = torch.where(drawn, self._chosen[pairs, place], _IDENTITY)
            images = _apply(images, self._operations, chosen, self._strengths[pairs, place], generator)
        return images


_IDENTITY = list(OPERATIONS).index("Identity")


def _apply(
    images: Tensor,
    operations: list[Operation],
    chosen: Tensor,
    strengths: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Change each image by its own operation; images of the same one are changed together."""
    signs = torch.randint(2, (len(images),), generator=generator) * 2 - 1
    changed = images.clone()
    for index, operation in enumerate(operations):
        members = (chosen == index).nonzero().flatten()
        if not len(members) or index == _IDENTITY:
            continue
        strength = strengths[members] * signs[members] if operation.signed else strengths[members]
        members = members.to(images.device)
        changed[members] = operation.apply(images[members], strength)
    return changed


IMAGENET_POLICY: tuple[SubPolicy, ...] = (
    (("Posterize", 0.4, 8), ("Rotate", 0.6, 9)),
    (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
    (("Equalize", 0.8, 8), ("Equalize", 0.6, 3)),
    (("Posterize", 0.6, 7), ("Posterize", 0.6, 6)),
    (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),
    (("Equalize", 0.4, 4), ("Rotate", 0.8, 8)),
    (("Solarize", 0.6, 3), ("Equalize", 0.6, 7)),
    (("Posterize", 0.8, 5), ("Equalize", 1.0, 2)),
    (("Rotate", 0.2, 3), ("Solarize", 0.6, 8)),
    (("Equalize", 0.6, 8), ("Posterize", 0.4, 6)),
    (("Rotate", 0.8, 8), ("Color", 0.4, 0)),
    (("Rotate", 0.4, 9), ("Equalize", 0.6, 2)),
    (("Equalize", 0.0, 7), ("Equalize", 0.8, 8)),
    (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
    (("Rotate", 0.8, 8), ("Color", 1.0, 2)),
    (("Color", 0.8, 8), ("Solarize", 0.8, 7)),
    (("Sharpness", 0.4, 7), ("Invert", 0.6, 8)),
    (("ShearX", 0.6, 5), ("Equalize", 1.0, 9)),
    (("Color", 0.4, 0), ("Equalize", 0.6, 3)),
    (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),
    (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
    (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
    (("Equalize", 0.8, 8), ("Equalize", 0.6, 3)),
)

CIFAR10_POLICY: tuple[SubPolicy, ...] = (
    (("Invert", 0.1, 7), ("Contrast", 0.2, 6)),
    (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
    (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
    (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.5, 8), ("Equalize", 0.9, 2)),
    (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
    (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
    (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
    (("Equalize", 0.6, 5), ("Equalize", 0.5, 1)),
    (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
    (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
    (("Equalize", 0.3, 7), ("AutoContrast", 0.4, 8)),
    (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
    (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
    (("Solarize", 0.5, 2), ("Invert", 0.0, 3)),
    (("Equalize", 0.2, 0), ("AutoContrast", 0.6, 0)),
    (("Equalize", 0.2, 8), ("Equalize", 0.6, 4)),
    (("Color", 0.9, 9), ("Equalize", 0.6, 6)),
    (("AutoContrast", 0.8, 4), ("Solarize", 0.2, 8)),
    (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
    (("Solarize", 0.4, 5), ("AutoContrast", 0.9, 3)),
    (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.9, 2), ("Solarize", 0.8, 3)),
    (("Equalize", 0.8, 8), ("Invert", 0.1, 3)),
    (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, 1)),
)
