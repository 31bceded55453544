"""The layers that networks of inverted residual blocks are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from trainer.config import Activation

PaddingRule = Literal["tf_same", "symmetric"]
Size = tuple[int, int]


@dataclass(frozen=True)
class LayerTypes:
    """The classes a network is built from; a training method may put in drop-in replacements."""

    conv: type[nn.Conv2d] = nn.Conv2d
    norm: type[nn.BatchNorm2d] = nn.BatchNorm2d
    linear: type[nn.Linear] = nn.Linear


PLAIN_LAYERS = LayerTypes()


@dataclass(frozen=True)
class BlockRow:
    """One inverted residual block: [1x1 expansion,] depthwise kernel x kernel, linear 1x1 projection.

    `hidden` is the width of the depthwise convolution; where it equals `in_channels`, the block has no
    expansion. Only an explicit `shortcut` adds the input: equal widths alone do not. `squeeze` is the
    width inside of the squeeze-and-excitation behind the depthwise convolution, 0 for none.
    """

    in_channels: int
    hidden: int
    out_channels: int
    kernel: int = 3
    stride: int = 1
    shortcut: bool = False
    activation: Activation = "relu6"
    squeeze: int = 0

    @property
    def expands(self) -> bool:
        """Whether the block has an expansion convolution."""
        return self.hidden != self.in_channels


def make_activation(name: Activation) -> nn.Module:
    """A new layer of the activation."""
    if name == "hard_swish":
        return nn.Hardswish()
    return nn.ReLU6(inplace=True) if name == "relu6" else nn.ReLU(inplace=True)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis of `size` pixels in TensorFlow's SAME padding."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class ConvNorm(nn.Module):
    """[pad,] conv, norm [, activation]: the convolution has no bias, and maps `size` to `out_size` pixels.

    Padding that differs before and after the map (SAME, stride 2, even size) is a ZeroPad2d of its own.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: Size,
        *,
        kernel: int | Size = 1,
        stride: int = 1,
        groups: int = 1,
        activation: Activation | None = "relu6",
        padding: PaddingRule = "tf_same",
        layers: LayerTypes = PLAIN_LAYERS,
    ) -> None:
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        rows, columns = ((side // 2, side // 2) for side in sides)
        if padding == "tf_same":
            rows, columns = (same_padding(*axis, stride) for axis in zip(size, sides, strict=True))
        even = rows[0] == rows[1] and columns[0] == columns[1]
        inner = (rows[0], columns[0]) if even else (0, 0)
        self.pad = nn.Identity() if even else nn.ZeroPad2d((*columns, *rows))
        self.conv = layers.conv(in_channels, out_channels, sides, stride, inner, groups=groups, bias=False)
        self.norm = layers.norm(out_channels)
        self.act = make_activation(activation) if activation else nn.Identity()
        self.out_size: Size = (-(-size[0] // stride), -(-size[1] // stride))

    def forward(self, x: Tensor) -> Tensor:
        """Float [N, in, H, W] to [N, out, H / stride, W / stride], rounded up."""
        out: Tensor = self.act(self.norm(self.conv(self.pad(x))))
        return out


class SqueezeExcite(nn.Module):
    """Scales each channel by 0..1, computed from the means of all (Hu et al., CVPR 2018).

    The gate is MobileNetV3's: ReLU inside, a hard sigmoid at the end (Howard et al., ICCV 2019). The latter
    is spelt out, as TFLite Micro lacks the RELU_0_TO_1 that converters make of torch's.
    """

    def __init__(self, channels: int, squeeze: int, layers: LayerTypes = PLAIN_LAYERS) -> None:
        super().__init__()
        self.reduce = layers.conv(channels, squeeze, 1)
        self.expand = layers.conv(squeeze, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Float [N, channels, H, W], scaled."""
        squeezed = functional.relu(self.reduce(x.mean(dim=(2, 3), keepdim=True)))
        return x * (functional.relu6(self.expand(squeezed) + 3.0) / 6.0)


class InvertedResidual(nn.Module):
    """The block that a `BlockRow` describes (Sandler et al., CVPR 2018; Howard et al., ICCV 2019)."""

    def __init__(
        self, row: BlockRow, size: Size, padding: PaddingRule = "tf_same", layers: LayerTypes = PLAIN_LAYERS
    ) -> None:
        super().__init__()
        self.shortcut = row.shortcut
        self.expand = (
            ConvNorm(row.in_channels, row.hidden, size, activation=row.activation, layers=layers)
            if row.expands
            else None
        )
        self.depthwise = ConvNorm(
            row.hidden,
            row.hidden,
            size,
            kernel=row.kernel,
            stride=row.stride,
            groups=row.hidden,
            activation=row.activation,
            padding=padding,
            layers=layers,
        )
        self.out_size = self.depthwise.out_size
        self.excite = SqueezeExcite(row.hidden, row.squeeze, layers) if row.squeeze else None
        self.project = ConvNorm(row.hidden, row.out_channels, self.out_size, activation=None, layers=layers)
        self.lite: nn.Module | None = None  # a further branch, from the block's input to its output

    def forward(self, x: Tensor) -> Tensor:
        """Float [N, in_channels, H, W] to [N, out_channels, H / stride, W / stride], rounded up."""
        hidden = x if self.expand is None else self.expand(x)
        hidden = self.depthwise(hidden)
        if self.excite is not None:
            hidden = self.excite(hidden)
        out: Tensor = self.project(hidden)
        if self.lite is not None:
            out = out + self.lite(x)
        return x + out if self.shortcut else out
