"""From tables of stages to networks of inverted residual blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trainer.config import Activation, ModelConfig, StageConfig
from trainer.models.blocks import BlockRow
from trainer.models.network import InputShape, InvertedResidualNetwork, NetworkTable

Rows = Callable[[int, float], tuple[BlockRow, ...]]
"""Function of (width of the stem, width multiplier)."""


@dataclass(frozen=True)
class Stage:
    """Inverted residual blocks of one width: (expand ratio, kernel) of each.

    The first takes the stride and has no shortcut, even where its input has the same shape.
    """

    channels: int
    stride: int
    blocks: tuple[tuple[float, int], ...]
    activation: Activation = "relu6"
    squeeze_excite: bool = False


def scale_channels(channels: int, multiplier: float) -> int:
    """Multiply, and round as `round_channels` does; 1.0 changes nothing."""
    return channels if multiplier == 1.0 else round_channels(channels * multiplier)


def round_channels(wanted: float) -> int:
    """Round to the nearest 8, at least 8, but up where that loses more than a tenth."""
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * wanted else rounded + 8


def squeeze_channels(hidden: int) -> int:
    """Width inside of a squeeze-and-excitation of `hidden` channels, by the rule of MobileNetV3's code."""
    return max(round_channels(hidden / 4), 16)


def stage_rows(stages: Sequence[Stage], stem_channels: int, multiplier: float) -> tuple[BlockRow, ...]:
    """Spell the stages out, one row per block, with scaled widths."""
    rows = []
    channels = stem_channels
    for stage in stages:
        out = scale_channels(stage.channels, multiplier)
        for index, (ratio, kernel) in enumerate(stage.blocks):
            hidden = round(channels * ratio)
            rows.append(
                BlockRow(
                    channels,
                    hidden,
                    out,
                    kernel,
                    stage.stride if index == 0 else 1,
                    shortcut=index > 0,
                    activation=stage.activation,
                    squeeze=squeeze_channels(hidden) if stage.squeeze_excite else 0,
                )
            )
            channels = out
    return tuple(rows)


def table_network(
    config: ModelConfig,
    input_shape: InputShape,
    classes: int,
    published: Rows,
    *,
    stem_channels: int,
    multiplier: float,
    last_channels: int,
    head_channels: int = 0,
    activation: Activation = "relu6",
) -> InvertedResidualNetwork:
    """Build a published network, with what `config` puts in the place of its own.

    `stem_channels` is the width before scaling; `last_channels` and `head_channels` are final.
    """
    stem = scale_channels(config.stem_channels or stem_channels, multiplier)
    rows = (
        stage_rows([_declared(stage) for stage in config.stages], stem, multiplier)
        if config.stages
        else published(stem, multiplier)
    )
    return InvertedResidualNetwork(
        NetworkTable(
            input_shape,
            classes,
            stem,
            rows,
            last_channels if config.last_channels is None else config.last_channels,
            config.stem_stride,
            config.padding,
            head_channels if config.head_channels is None else config.head_channels,
            activation,
            config.lite_residuals,
        )
    )


def _declared(stage: StageConfig) -> Stage:
    blocks = ((stage.expand_ratio, stage.kernel),) * stage.blocks
    return Stage(stage.channels, stage.stride, blocks, stage.activation, stage.squeeze_excite)
