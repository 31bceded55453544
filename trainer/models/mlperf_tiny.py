"""Two networks of MLPerf Tiny (Banbury et al., NeurIPS Datasets and Benchmarks 2021), as in mlcommons/tiny.

Convolutions in front of a BatchNorm have no bias here, which the norm would take away again; the networks
that are deployed, with folded norms, have the same parameters.
"""

from __future__ import annotations

from torch import Tensor, nn

from common.errors import ConfigError
from trainer.config import ModelConfig
from trainer.models.blocks import ConvNorm, PaddingRule, Size
from trainer.models.network import InputShape, check_depth
from trainer.models.registry import refuse_unused, register_model

_RESNET_STAGES = ((16, 1), (32, 2), (64, 2))  # width, stride
_DS_CHANNELS = 64
_DS_BLOCKS = 4


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; where the shape changes, the shortcut is a 1x1 convolution."""

    def __init__(
        self, in_channels: int, channels: int, size: Size, stride: int, padding: PaddingRule
    ) -> None:
        super().__init__()
        self.first = ConvNorm(
            in_channels, channels, size, kernel=3, stride=stride, activation="relu", padding=padding
        )
        self.out_size = self.first.out_size
        self.second = ConvNorm(channels, channels, self.out_size, kernel=3, activation=None, padding=padding)
        same = stride == 1 and in_channels == channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, channels, 1, stride)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Float [N, in_channels, H, W] to [N, channels, H / stride, W / stride], rounded up."""
        out: Tensor = self.act(self.shortcut(x) + self.second(self.first(x)))
        return out


class ResNet8(nn.Module):
    """A 3x3 convolution and three basic blocks; pools globally before the classifier."""

    def __init__(self, input_shape: InputShape, classes: int, padding: PaddingRule) -> None:
        super().__init__()
        check_depth(input_shape, [1, *(stride for _, stride in _RESNET_STAGES)])
        channels, size = _RESNET_STAGES[0][0], (input_shape[1], input_shape[2])
        self.stem = ConvNorm(input_shape[0], channels, size, kernel=3, activation="relu", padding=padding)
        blocks = []
        for width, stride in _RESNET_STAGES:
            blocks.append(BasicBlock(channels, width, size, stride, padding))
            channels, size = width, blocks[-1].out_size
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Float images [N, C, H, W] to logits [N, classes]."""
        logits: Tensor = self.classifier(self.blocks(self.stem(x)).mean(dim=(2, 3)))
        return logits


class DsCnn(nn.Module):
    """A 10x4 convolution and four depthwise separable blocks; pools globally before the classifier."""

    def __init__(self, input_shape: InputShape, classes: int) -> None:
        super().__init__()
        width, size = _DS_CHANNELS, (input_shape[1], input_shape[2])
        self.stem = ConvNorm(input_shape[0], width, size, kernel=(10, 4), stride=2, activation="relu")
        size = self.stem.out_size
        blocks: list[nn.Module] = []
        for _ in range(_DS_BLOCKS):
            blocks.append(ConvNorm(width, width, size, kernel=3, groups=width, activation="relu"))
            blocks.append(ConvNorm(width, width, size, activation="relu"))
        self.blocks = nn.Sequential(nn.Dropout(0.2), *blocks, nn.Dropout(0.4))
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Float features [N, C, time, coefficients] to logits [N, classes]."""
        logits: Tensor = self.classifier(self.blocks(self.stem(x)).mean(dim=(2, 3)))
        return logits


@register_model("resnet8")
def resnet8(config: ModelConfig, input_shape: InputShape, classes: int) -> nn.Module:
    """The image classification network (ic01), made for images of 32x32."""
    refuse_unused(config, "padding")
    return ResNet8(input_shape, classes, config.padding)


@register_model("ds_cnn")
def ds_cnn(config: ModelConfig, input_shape: InputShape, classes: int) -> nn.Module:
    """The keyword spotting network (kws01), made for 49 frames of 10 coefficients; pads as SAME does."""
    refuse_unused(config)
    if min(input_shape[1:]) < 2:
        raise ConfigError(f"model: ds_cnn takes 2 or more frames and coefficients, not {input_shape[1:]}")
    return DsCnn(input_shape, classes)
