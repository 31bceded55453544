"""The lite residual of TinyTL (Cai et al., NeurIPS 2020, section 3.2): a small branch beside each block."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from trainer.models.blocks import ConvNorm, PaddingRule, Size

_KERNEL = 5
_GROUPS = 2


class LiteResidual(nn.Module):
    """Halves the map, convolves it in 2 groups, and resizes the result to the block's output.

    `size` is that of the block's input. The second norm starts with a scale of 0, so the branch with an
    output of 0. The kernel is 5x5, or smaller where the halved map is; a map that would become one pixel is
    averaged whole.
    """

    def __init__(
        self, in_channels: int, out_channels: int, size: Size, stride: int, padding: PaddingRule = "tf_same"
    ) -> None:
        super().__init__()
        halved = (size[0] // 2, size[1] // 2)
        whole = min(halved) <= 1
        self.pool: nn.Module = nn.AdaptiveAvgPool2d(1) if whole else nn.AvgPool2d(2)
        kernel = 1 if whole else _KERNEL
        while kernel > min(halved) > 1:
            kernel -= 2
        width = max(8, (in_channels + 4) // 8 * 8)
        self.conv = ConvNorm(
            in_channels,
            width,
            (1, 1) if whole else halved,
            kernel=kernel,
            stride=1 if whole else stride,
            groups=_GROUPS if in_channels % _GROUPS == 0 else 1,
            activation="relu",
            padding=padding,
        )
        self.project = ConvNorm(width, out_channels, self.conv.out_size, activation=None)
        self.project.norm = ZeroScaleNorm(out_channels)
        self.out_size: Size = (-(-size[0] // stride), -(-size[1] // stride))

    def forward(self, x: Tensor) -> Tensor:
        """Float [N, in_channels, H, W] to [N, out_channels, H / stride, W / stride], rounded up."""
        out = self.project(self.conv(self.pool(x)))
        return functional.interpolate(out, self.out_size, mode="bilinear", align_corners=False)


class ZeroScaleNorm(nn.BatchNorm2d):
    """BatchNorm whose scale starts at 0."""

    def reset_parameters(self) -> None:
        """Zero scale and shift, statistics of a standard normal."""
        super().reset_parameters()
        nn.init.zeros_(self.weight)
