"""MobileNetV2 (Sandler et al., CVPR 2018) and the smaller one of the NetAug paper."""

from __future__ import annotations

from functools import partial

from torch import nn

from trainer.config import ModelConfig
from trainer.models.network import InputShape
from trainer.models.registry import register_model
from trainer.models.stages import Stage, scale_channels, stage_rows, table_network

_ROWS = partial(
    stage_rows,
    (  # table 2
        Stage(16, 1, ((1, 3),)),
        Stage(24, 2, ((6, 3),) * 2),
        Stage(32, 2, ((6, 3),) * 3),
        Stage(64, 2, ((6, 3),) * 4),
        Stage(96, 1, ((6, 3),) * 3),
        Stage(160, 2, ((6, 3),) * 3),
        Stage(320, 1, ((6, 3),)),
    ),
)
_STEM_CHANNELS = 32
_LAST_CHANNELS = 1280
_TINY_WIDTH = 0.35


@register_model("mobilenet_v2")
def mobilenet_v2(config: ModelConfig, input_shape: InputShape, classes: int) -> nn.Module:
    """MobileNetV2 (Sandler et al., CVPR 2018); only multipliers above 1 scale its last convolution."""
    multiplier = config.width_multiplier or 1.0
    last = scale_channels(_LAST_CHANNELS, max(1.0, multiplier))
    return table_network(
        config,
        input_shape,
        classes,
        _ROWS,
        stem_channels=_STEM_CHANNELS,
        multiplier=multiplier,
        last_channels=last,
    )


@register_model("mobilenet_v2_tiny")
def mobilenet_v2_tiny(config: ModelConfig, input_shape: InputShape, classes: int) -> nn.Module:
    """MobileNetV2-Tiny (Cai et al., ICLR 2022): width 0.35, the last convolution scaled as well."""
    multiplier = config.width_multiplier or _TINY_WIDTH
    return table_network(
        config,
        input_shape,
        classes,
        _ROWS,
        stem_channels=_STEM_CHANNELS,
        multiplier=multiplier,
        last_channels=scale_channels(_LAST_CHANNELS, multiplier),
    )
