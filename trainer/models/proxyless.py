"""ProxylessNAS-Mobile (Cai et al., ICLR 2019), the network found for mobile phones."""

from __future__ import annotations

from functools import partial

from torch import nn

from trainer.config import ModelConfig
from trainer.models.network import InputShape
from trainer.models.registry import register_model
from trainer.models.stages import Stage, scale_channels, stage_rows, table_network

_ROWS = partial(
    stage_rows,
    (
        Stage(16, 1, ((1, 3),)),
        Stage(32, 2, ((3, 5), (3, 3))),
        Stage(40, 2, ((3, 7), (3, 3), (3, 5), (3, 5))),
        Stage(80, 2, ((6, 7), (3, 5), (3, 5), (3, 5))),
        Stage(96, 1, ((6, 5), (3, 5), (3, 5), (3, 5))),
        Stage(192, 2, ((6, 7), (6, 7), (3, 7), (3, 7))),
        Stage(320, 1, ((6, 7),)),
    ),
)
_STEM_CHANNELS = 32
_LAST_CHANNELS = 1280


@register_model("proxyless_mobile")
def proxyless_mobile(config: ModelConfig, input_shape: InputShape, classes: int) -> nn.Module:
    """ProxylessNAS-Mobile; only multipliers above 1 scale its last convolution."""
    multiplier = config.width_multiplier or 1.0
    return table_network(
        config,
        input_shape,
        classes,
        _ROWS,
        stem_channels=_STEM_CHANNELS,
        multiplier=multiplier,
        last_channels=scale_channels(_LAST_CHANNELS, max(1.0, multiplier)),
    )
