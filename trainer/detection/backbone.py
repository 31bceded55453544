"""The features of a classification network at strides 8, 16 and 32."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from common.errors import ConfigError
from trainer.models.network import InputShape

STRIDES = (8, 16, 32)
Features = tuple[Tensor, Tensor, Tensor]


class Backbone(nn.Module):
    """`stem`, `pool` (where there is one) and `blocks` of `network`, up to its last features of stride 32.

    Tensors keep the names that they have in `network`. `channels` are those of the last features at strides
    8, 16 and 32. `name` stands in the ConfigError for a network that lacks one of them.
    """

    def __init__(self, network: nn.Module, input_shape: InputShape, name: str) -> None:
        super().__init__()
        parts = dict(network.named_children())
        stem, blocks = parts.get("stem"), parts.get("blocks")
        if stem is None or not isinstance(blocks, nn.ModuleList | nn.Sequential):
            raise ConfigError(
                f"model.detector: {name!r} is not a network of a stem and blocks of convolutions: it has no "
                "features at strides 8, 16 and 32: choose another model.name"
            )
        self.stem = stem
        self.pool = parts.get("pool", nn.Identity())
        shapes = _shapes([self.stem, self.pool, *blocks], input_shape)[2:]
        last = {input_shape[1] // shape[1]: index for index, shape in enumerate(shapes)}
        missing = [str(stride) for stride in STRIDES if stride not in last]
        if missing:
            raise ConfigError(
                f"model.detector needs features at strides 8, 16 and 32; {name!r} has none at stride "
                f"{' and '.join(missing)}: choose another model.name, or other model.stages"
            )
        self._taps = tuple(last[stride] for stride in STRIDES)
        self.blocks = nn.ModuleList(list(blocks)[: self._taps[-1] + 1])
        first, second, third = (shapes[tap][0] for tap in self._taps)
        self.channels = (first, second, third)

    def forward(self, x: Tensor) -> Features:
        """Float images [N, C, H, W] to features [N, channels, H / stride, W / stride] at three strides."""
        x = self.pool(self.stem(x))
        taken = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self._taps:
                taken.append(x)
        eighth, sixteenth, thirtysecond = taken
        return eighth, sixteenth, thirtysecond


@torch.no_grad()
def _shapes(layers: list[nn.Module], input_shape: InputShape) -> list[tuple[int, ...]]:
    """(C, H, W) behind each of the layers."""
    x = torch.empty(1, *input_shape, device="meta")
    shapes = []
    for layer in layers:
        x = copy.deepcopy(layer).to("meta").eval()(x)
        shapes.append(tuple(x.shape[1:]))
    return shapes
