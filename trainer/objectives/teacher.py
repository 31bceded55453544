"""A trained network that teaches another."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from common.errors import ConfigError
from trainer.checkpoint import ARCHITECTURE, load_network
from trainer.earlier_training import earlier_file
from trainer.objectives.base import ObjectiveContext


class Teacher:
    """Answers the student's images, at its own resolution and normalised in its own way.

    It stays in eval mode, without gradients; threads may share it. Raises ConfigError where there is no
    trained network in `folder`, or it does not know the student's classes and channels, ModelError where it
    is damaged.
    """

    def __init__(self, folder: Path, context: ObjectiveContext) -> None:
        earlier_file(folder, ARCHITECTURE, "train.distillation")
        network, architecture = load_network(folder)
        channels, *size = architecture.input_shape
        if channels != context.input_shape[0]:
            raise ConfigError(
                f"teacher {folder} takes images of {channels} channels, the data has "
                f"{context.input_shape[0]}: name a teacher that was trained on such data"
            )
        if architecture.class_names != context.class_names:
            raise ConfigError(
                f"teacher {folder} knows {_described(architecture.class_names)}, the data has "
                f"{_described(context.class_names)}: name a teacher that was trained on these"
            )
        self._size = (size[0], size[1])
        device = context.train.device
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # fastest on CPUs
        self._network = network.to(device).requires_grad_(False)
        mean, std, own_mean, own_std = (
            torch.tensor(values, dtype=torch.float64)
            for values in (context.mean, context.std, architecture.mean, architecture.std)
        )
        self._scale = (std / own_std).float().to(device)[:, None, None]
        self._offset = ((mean - own_mean) / own_std).float().to(device)[:, None, None]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits [N, classes] of the student's images, float [N, C, H, W]."""
        shown = images * self._scale + self._offset
        if shown.shape[2:] != self._size:
            shown = functional.interpolate(shown, self._size, mode="bilinear", antialias=True)
        logits: Tensor = self._network(shown)
        return logits


def _described(class_names: tuple[str, ...]) -> str:
    shown = ", ".join(class_names[:3])
    return f"{len(class_names)} classes ({shown}{', ...' if len(class_names) > 3 else ''})"
