"""ResNet-50 (He et al., CVPR 2016), with the strides in the 3x3 convolutions, as usual since."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from trainer.config import ModelConfig
from trainer.models.blocks import ConvNorm, PaddingRule, Size, same_padding
from trainer.models.network import InputShape, check_depth
from trainer.models.registry import refuse_unused, register_model

_STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # width, blocks, stride; table 1
_STEM_CHANNELS = 64
_EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions of widths w, w, 4w and a shortcut; a 1x1 one where the shape changes."""

    def __init__(self, in_channels: int, width: int, size: Size, stride: int, padding: PaddingRule) -> None:
        super().__init__()
        out_channels = _EXPANSION * width
        self.reduce = ConvNorm(in_channels, width, size, activation="relu")
        self.conv = ConvNorm(width, width, size, kernel=3, stride=stride, activation="relu", padding=padding)
        self.out_size = self.conv.out_size
        self.expand = ConvNorm(width, out_channels, self.out_size, activation=None)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = ConvNorm(
                in_channels, out_channels, size, stride=stride, activation=None, padding="symmetric"
            )
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Float [N, in_channels, H, W] to [N, 4 width, H / stride, W / stride], rounded up."""
        out: Tensor = self.act(self.shortcut(x) + self.expand(self.conv(self.reduce(x))))
        return out


class MaxPool(nn.Module):
    """Maximum over 3x3 pixels, stride 2, of a map that is nowhere negative."""

    def __init__(self, size: Size, padding: PaddingRule) -> None:
        super().__init__()
        rows, columns = (same_padding(side, 3, 2) if padding == "tf_same" else (1, 1) for side in size)
        self.pad = nn.ZeroPad2d((*columns, *rows))
        self.out_size: Size = (-(-size[0] // 2), -(-size[1] // 2))

    def forward(self, x: Tensor) -> Tensor:
        """Float [N, channels, H, W] to [N, channels, H / 2, W / 2], rounded up."""
        return functional.max_pool2d(self.pad(x), 3, 2)


class ResNet50(nn.Module):
    """A 7x7 convolution, a maximum pooling and 16 bottlenecks; pools globally before the classifier."""

    def __init__(self, input_shape: InputShape, classes: int, padding: PaddingRule) -> None:
        super().__init__()
        strides = [stride if index == 0 else 1 for _, count, stride in _STAGES for index in range(count)]
        check_depth(input_shape, [4, *strides])  # the stem's and the pooling's
        channels, size = _STEM_CHANNELS, (input_shape[1], input_shape[2])
        self.stem = ConvNorm(
            input_shape[0], channels, size, kernel=7, stride=2, activation="relu", padding=padding
        )
        self.pool = MaxPool(self.stem.out_size, padding)
        size = self.pool.out_size
        widths = [width for width, count, _ in _STAGES for _ in range(count)]
        blocks = []
        for width, stride in zip(widths, strides, strict=True):
            blocks.append(Bottleneck(channels, width, size, stride, padding))
            channels, size = _EXPANSION * width, blocks[-1].out_size
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Float images [N, C, H, W] to logits [N, classes]."""
        logits: Tensor = self.classifier(self.blocks(self.pool(self.stem(x))).mean(dim=(2, 3)))
        return logits


@register_model("resnet50")
def resnet50(config: ModelConfig, input_shape: InputShape, classes: int) -> nn.Module:
    """ResNet-50; with padding "symmetric" the one that the published figures are of."""
    refuse_unused(config, "padding")
    return ResNet50(input_shape, classes, config.padding)
