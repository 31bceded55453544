"""Networks of inverted residual blocks, built from a declarative table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from common.errors import ConfigError
from trainer.config import Activation
from trainer.models.blocks import (
    PLAIN_LAYERS,
    BlockRow,
    ConvNorm,
    InvertedResidual,
    LayerTypes,
    PaddingRule,
    make_activation,
)
from trainer.models.lite_residual import LiteResidual

InputShape = tuple[int, int, int]


def check_depth(input_shape: InputShape, strides: Sequence[int]) -> None:
    """Raise ConfigError where a stride of the stem, the first of `strides`, or of a block halves 1 pixel."""
    height, width = input_shape[1:]
    for depth, stride in enumerate(strides):
        if stride > 1 and min(height, width) == 1:
            layer = f"block {depth}" if depth else "the stem"
            image = "x".join(str(side) for side in input_shape[1:])
            raise ConfigError(
                f"model: the network is too deep for images of {image}: {layer} would halve a map of "
                f"{height}x{width}; use a larger data.resolution or fewer strides of 2"
            )
        height, width = -(-height // stride), -(-width // stride)


@dataclass(frozen=True)
class NetworkTable:
    """All that defines the architecture: stem 3x3, blocks, last 1x1, pooling, head 1x1, classifier.

    `last_channels` and `head_channels` 0 leave the convolution out; the head has a bias and no norm. With
    `lite_residuals`, each block has one (trainer.models.lite_residual).
    `activation` is that of stem, last and head. `input_shape` is (C, H, W). Raises ConfigError where the
    image is too small for the strides.
    """

    input_shape: InputShape
    classes: int
    stem_channels: int
    blocks: tuple[BlockRow, ...]
    last_channels: int
    stem_stride: int = 2
    padding: PaddingRule = "tf_same"
    head_channels: int = 0
    activation: Activation = "relu6"
    lite_residuals: bool = False

    def __post_init__(self) -> None:
        check_depth(self.input_shape, [self.stem_stride, *(row.stride for row in self.blocks)])

    @property
    def pooled_channels(self) -> int:
        """Width of what is pooled."""
        return self.last_channels or self.blocks[-1].out_channels

    @property
    def feature_channels(self) -> int:
        """Width of what the classifier sees."""
        return self.head_channels or self.pooled_channels


class InvertedResidualNetwork(nn.Module):
    """The network of a table, which it keeps as `table`."""

    def __init__(self, table: NetworkTable, layers: LayerTypes = PLAIN_LAYERS) -> None:
        super().__init__()
        self.table = table
        channels, *size = table.input_shape
        self.stem = ConvNorm(
            channels,
            table.stem_channels,
            (size[0], size[1]),
            kernel=3,
            stride=table.stem_stride,
            activation=table.activation,
            padding=table.padding,
            layers=layers,
        )
        out_size = self.stem.out_size
        blocks = []
        for row in table.blocks:
            block = InvertedResidual(row, out_size, table.padding, layers)
            if table.lite_residuals:
                block.lite = LiteResidual(
                    row.in_channels, row.out_channels, out_size, row.stride, table.padding
                )
            blocks.append(block)
            out_size = blocks[-1].out_size
        self.blocks = nn.ModuleList(blocks)
        self.last = (
            ConvNorm(
                table.blocks[-1].out_channels,
                table.last_channels,
                out_size,
                activation=table.activation,
                layers=layers,
            )
            if table.last_channels
            else None
        )
        self.head = (
            layers.conv(table.pooled_channels, table.head_channels, 1) if table.head_channels else None
        )
        self.head_act = make_activation(table.activation) if table.head_channels else nn.Identity()
        self.classifier = layers.linear(table.feature_channels, table.classes)

    @property
    def inverted_blocks(self) -> list[InvertedResidual]:
        """The blocks, typed."""
        return [block for block in self.blocks if isinstance(block, InvertedResidual)]

    def forward(self, x: Tensor) -> Tensor:
        """Float images [N, C, H, W] to logits [N, classes]."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.classify(x)

    def classify(self, x: Tensor) -> Tensor:
        """What the last block gives, float [N, channels, H, W], to logits [N, classes]."""
        if self.last is not None:
            x = self.last(x)
        if self.head is None:
            features = x.mean(dim=(2, 3))
        else:
            features = self.head_act(self.head(x.mean(dim=(2, 3), keepdim=True))).flatten(1)
        logits: Tensor = self.classifier(features)
        return logits
