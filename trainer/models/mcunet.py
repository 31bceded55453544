"""MCUNet (Lin et al., NeurIPS 2020), the ImageNet network for 320 KB of SRAM and 1 MB of flash."""

from __future__ import annotations

from functools import partial

from torch import nn

from trainer.config import ModelConfig
from trainer.models.network import InputShape
from trainer.models.registry import register_model
from trainer.models.stages import Stage, stage_rows, table_network

_ROWS = partial(
    stage_rows,
    (
        Stage(8, 1, ((1, 3),)),
        Stage(16, 2, ((3, 7), (5, 3), (5, 7), (4, 5))),
        Stage(24, 2, ((5, 5), (5, 5), (5, 5))),
        Stage(40, 2, ((5, 3), (6, 7), (4, 5))),
        Stage(48, 1, ((5, 5), (5, 7), (5, 3))),
        Stage(96, 2, ((6, 3), (5, 7), (4, 3))),
        Stage(160, 1, ((5, 7),)),
    ),
)
_STEM_CHANNELS = 16


@register_model("mcunet")
def mcunet(config: ModelConfig, input_shape: InputShape, classes: int) -> nn.Module:
    """MCUNet, made for images of 176x176; without a last convolution."""
    return table_network(
        config,
        input_shape,
        classes,
        _ROWS,
        stem_channels=_STEM_CHANNELS,
        multiplier=config.width_multiplier or 1.0,
        last_channels=0,
    )
