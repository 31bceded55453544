"""MobileNetV3-Large (Howard et al., ICCV 2019)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from trainer.config import Activation, ModelConfig
from trainer.models.blocks import BlockRow
from trainer.models.network import InputShape
from trainer.models.registry import register_model
from trainer.models.stages import scale_channels, squeeze_channels, table_network


@dataclass(frozen=True)
class _Row:
    kernel: int
    hidden: int
    channels: int
    squeeze_excite: bool
    activation: Activation
    stride: int


_TABLE = (  # table 1
    _Row(3, 16, 16, False, "relu", 1),
    _Row(3, 64, 24, False, "relu", 2),
    _Row(3, 72, 24, False, "relu", 1),
    _Row(5, 72, 40, True, "relu", 2),
    _Row(5, 120, 40, True, "relu", 1),
    _Row(5, 120, 40, True, "relu", 1),
    _Row(3, 240, 80, False, "hard_swish", 2),
    _Row(3, 200, 80, False, "hard_swish", 1),
    _Row(3, 184, 80, False, "hard_swish", 1),
    _Row(3, 184, 80, False, "hard_swish", 1),
    _Row(3, 480, 112, True, "hard_swish", 1),
    _Row(3, 672, 112, True, "hard_swish", 1),
    _Row(5, 672, 160, True, "hard_swish", 2),
    _Row(5, 960, 160, True, "hard_swish", 1),
    _Row(5, 960, 160, True, "hard_swish", 1),
)
_STEM_CHANNELS = 16
_LAST_CHANNELS = 960
_HEAD_CHANNELS = 1280


def _rows(stem_channels: int, multiplier: float) -> tuple[BlockRow, ...]:
    """Scale hidden widths by themselves; shortcuts are those of the published, unscaled table."""
    rows = []
    published, channels = _STEM_CHANNELS, stem_channels
    for row in _TABLE:
        out = scale_channels(row.channels, multiplier)
        hidden = channels if row.hidden == published else scale_channels(row.hidden, multiplier)
        rows.append(
            BlockRow(
                channels,
                hidden,
                out,
                row.kernel,
                row.stride,
                shortcut=row.stride == 1 and row.channels == published and out == channels,
                activation=row.activation,
                squeeze=squeeze_channels(hidden) if row.squeeze_excite else 0,
            )
        )
        published, channels = row.channels, out
    return tuple(rows)


@register_model("mobilenet_v3_large")
def mobilenet_v3_large(config: ModelConfig, input_shape: InputShape, classes: int) -> nn.Module:
    """MobileNetV3-Large; only multipliers above 1 scale the convolution behind its pooling."""
    multiplier = config.width_multiplier or 1.0
    return table_network(
        config,
        input_shape,
        classes,
        _rows,
        stem_channels=_STEM_CHANNELS,
        multiplier=multiplier,
        last_channels=scale_channels(_LAST_CHANNELS, multiplier),
        head_channels=scale_channels(_HEAD_CHANNELS, max(1.0, multiplier)),
        activation="hard_swish",
    )
