"""RocketLaunch: the tiny network trains together with a booster that shares its lower layers.

Zhou et al., Rocket Launching: A Universal and Efficient Framework for Training Well-performing Light Net,
AAAI 2018. The paper leaves the booster's upper layers, and the weight of the hint, to each experiment.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from common.errors import ConfigError
from trainer.config import RocketLaunchConfig
from trainer.methods.base import MethodContext, StepResult
from trainer.methods.initial import start_plain
from trainer.models.initialise import initialise
from trainer.models.network import InvertedResidualNetwork, NetworkTable
from trainer.models.stages import scale_channels, squeeze_channels
from trainer.objectives import BatchLoss
from trainer.optim import Restart
from trainer.seeds import derive_seed


class Rocket(nn.Module):
    """A tiny network, and a booster that goes on from what its stem and its first `shared` blocks give."""

    def __init__(self, light: InvertedResidualNetwork, booster: InvertedResidualNetwork, shared: int) -> None:
        super().__init__()
        self.light = light
        self.booster = booster
        self.shared = shared
        booster.stem = nn.Identity()  # type: ignore[assignment] # the light network's comes before
        booster.blocks = booster.blocks[shared:]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Float images [N, C, H, W] to the light network's logits and the booster's, [N, classes] each."""
        x = self.light.stem(images)
        for block in self.light.blocks[: self.shared]:
            x = block(x)
        boosted = x
        for block in self.light.blocks[self.shared :]:
            x = block(x)
        for block in self.booster.blocks:
            boosted = block(boosted)
        return self.light.classify(x), self.booster.classify(boosted)


class RocketLaunch:
    """Trains both networks on the labels, and the light one to give the booster's logits as well.

    The loss is H(light) + H(booster) + hint * ||light - booster||^2, the last per image over logits before
    the softmax (equation 3). With the paper's gradient block, nothing of the hint reaches the booster.
    """

    calibration_images = 0
    restarts: tuple[Restart, ...] = ()
    phase = ""

    def __init__(self, context: MethodContext) -> None:
        light = context.plain
        if not isinstance(light, InvertedResidualNetwork):
            raise ConfigError(
                f"train.method rocket_launch takes networks of inverted residual blocks; model "
                f"{context.model.name!r} is none: use method plain, or netaug"
            )
        if context.train.precision == "float16":
            raise ConfigError(
                'train.precision "float16" scales the loss, which rocket_launch cannot follow: use "bfloat16"'
            )
        config = context.train.rocket_launch
        start_plain(context)
        shared = int(config.shared * len(light.blocks))
        booster = InvertedResidualNetwork(booster_table(light.table, shared, config))
        initialise(booster, context.model.init, derive_seed(context.train.seed, "booster"))
        self.network = Rocket(light, booster, shared)
        self._hint = config.hint / context.train.batch_size

    def start_epoch(self, epoch: int, optimizer: Optimizer) -> None:
        """Nothing changes between epochs."""

    def backward(self, images: Tensor, loss: BatchLoss, epoch: int, step: int) -> StepResult:  # noqa: ARG002
        """Add the gradients of one batch; the light network's loss and logits are reported."""
        light, booster = self.network(images)
        value = loss(light)
        hint = functional.mse_loss(light, booster.detach(), reduction="sum")
        torch.autograd.backward(value + loss(booster, augmented=True) + self._hint * hint)
        return StepResult(value.detach(), light.detach())

    def tiny_network(self, batches: Iterable[Tensor]) -> nn.Module:  # noqa: ARG002
        """Give a copy of the light network in eval mode."""
        return copy.deepcopy(self.network.light).eval()


def booster_table(table: NetworkTable, shared: int, config: RocketLaunchConfig) -> NetworkTable:
    """The booster's architecture: `table` as far as `shared` blocks, then wider and deeper.

    Widths from there on are multiplied by `config.width`, except those that a shortcut ties to a shared one;
    `config.depth` blocks take the place of each block with a shortcut.
    """
    rows = list(table.blocks[:shared])
    channels = rows[-1].out_channels if rows else table.stem_channels
    for row in table.blocks[shared:]:
        hidden = round(channels * row.hidden / row.in_channels)
        wide = replace(
            row,
            in_channels=channels,
            hidden=hidden,
            out_channels=channels if row.shortcut else scale_channels(row.out_channels, config.width),
            squeeze=squeeze_channels(hidden) if row.squeeze else 0,
        )
        rows += [wide] * (config.depth if row.shortcut else 1)
        channels = wide.out_channels
    return replace(
        table,
        blocks=tuple(rows),
        last_channels=scale_channels(table.last_channels, config.width) if table.last_channels else 0,
        head_channels=scale_channels(table.head_channels, config.width) if table.head_channels else 0,
    )
