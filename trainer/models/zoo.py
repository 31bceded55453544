"""The networks a configuration can name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from trainer.config import ModelConfig, StageConfig
from trainer.models.blocks import BlockRow
from trainer.models.network import InputShape, InvertedResidualNetwork, NetworkTable
from trainer.registry import Registry

Builder = Callable[[ModelConfig, InputShape, int], nn.Module]

MODELS: Registry[Builder] = Registry("model")
"""Model name -> function of (configuration, input shape (C, H, W), number of classes)."""

# Sandler et al., CVPR 2018, table 2.
_STAGES = tuple(
    StageConfig(expand_ratio=ratio, channels=channels, blocks=blocks, stride=stride)
    for ratio, channels, blocks, stride in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
)
_STEM_CHANNELS = 32
_LAST_CHANNELS = 1280
_TINY_WIDTH = 0.35


def scale_channels(channels: int, multiplier: float) -> int:
    """Multiply and round to the nearest 8, but up where that loses more than a tenth; 1.0 changes nothing."""
    if multiplier == 1.0:
        return channels
    wanted = channels * multiplier
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * wanted else rounded + 8


def block_rows(stem_channels: int, stages: Sequence[StageConfig], multiplier: float) -> tuple[BlockRow, ...]:
    """Spell the stages out, one row per block, with scaled widths."""
    rows = []
    channels = stem_channels
    for stage in stages:
        out = scale_channels(stage.channels, multiplier)
        for index in range(stage.blocks):
            first = index == 0
            hidden = round(channels * stage.expand_ratio)
            stride = stage.stride if first else 1
            rows.append(BlockRow(channels, hidden, out, stage.kernel, stride, shortcut=not first))
            channels = out
    return tuple(rows)


def _mobilenet(
    config: ModelConfig, input_shape: InputShape, classes: int, multiplier: float, last_channels: int
) -> InvertedResidualNetwork:
    stem = scale_channels(config.stem_channels or _STEM_CHANNELS, multiplier)
    rows = block_rows(stem, config.stages or _STAGES, multiplier)
    last = last_channels if config.last_channels is None else config.last_channels
    return InvertedResidualNetwork(
        NetworkTable(input_shape, classes, stem, rows, last, config.stem_stride, config.padding)
    )


def mobilenet_v2(config: ModelConfig, input_shape: InputShape, classes: int) -> nn.Module:
    """MobileNetV2 (Sandler et al., CVPR 2018); only multipliers above 1 scale its last convolution."""
    multiplier = config.width_multiplier or 1.0
    last = scale_channels(_LAST_CHANNELS, max(1.0, multiplier))
    return _mobilenet(config, input_shape, classes, multiplier, last)


def mobilenet_v2_tiny(config: ModelConfig, input_shape: InputShape, classes: int) -> nn.Module:
    """MobileNetV2-Tiny (Cai et al., ICLR 2022): width 0.35, the last convolution scaled as well."""
    multiplier = config.width_multiplier or _TINY_WIDTH
    return _mobilenet(config, input_shape, classes, multiplier, scale_channels(_LAST_CHANNELS, multiplier))


MODELS.register("mobilenet_v2", mobilenet_v2)
MODELS.register("mobilenet_v2_tiny", mobilenet_v2_tiny)
