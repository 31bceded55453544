"""The `[model]` section of a configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from trainer.config.section import Section

Activation = Literal["relu6", "relu", "hard_swish"]


class StageConfig(Section):
    """A stage of inverted residual blocks; the first block takes `stride`, only the others have a shortcut.

    `expand_ratio` 1 means a depthwise separable block, without expansion. `squeeze_excite` puts a
    squeeze-and-excitation of a quarter of the hidden width, at least 16, behind each depthwise convolution.
    """

    expand_ratio: Annotated[float, Field(ge=1.0, le=64.0)]
    channels: PositiveInt
    blocks: PositiveInt = 1
    stride: Literal[1, 2] = 1
    kernel: Literal[3, 5, 7] = 3
    activation: Activation = "relu6"
    squeeze_excite: bool = False


Anchor = tuple[PositiveFloat, PositiveFloat]
Anchors = tuple[Anchor, Anchor, Anchor]


class DetectorConfig(Section):
    """A YOLOv3 head (Redmon and Farhadi, 2018) of depthwise separable convolutions on the network.

    `widths` are those of its three parts, at strides 32, 16 and 8; inside they are doubled. `anchors` are
    three boxes for each of the strides 8, 16 and 32, as (width, height) in pixels of the network's input.
    `prior` is the objectness that an untrained head gives to all predictions (Lin et al., ICCV 2017, section
    4.1): with YOLOv3's 0.5, the first steps' gradients only unlearn it, and are large enough to do harm.
    """

    widths: tuple[PositiveInt, PositiveInt, PositiveInt] = (256, 128, 128)
    anchors: tuple[Anchors, Anchors, Anchors] = (
        ((10, 13), (16, 30), (33, 23)),
        ((30, 61), (62, 45), (59, 119)),
        ((116, 90), (156, 198), (373, 326)),
    )
    prior: Annotated[float, Field(gt=0, lt=1)] = 0.01


class ModelConfig(Section):
    """A network of the zoo, whole or with a block table of one's own.

    `stem_channels`, `stages`, `last_channels` and `head_channels` replace the published table of `name`
    where given. The last two are the 1x1 convolutions before and after the global pooling; 0 leaves one
    out, and they are never scaled. `width_multiplier` None is the network's own. Padding "tf_same" is
    TFLite's SAME, "symmetric" the papers' (PyTorch's) kernel // 2. Networks of other kinds than inverted
    residual blocks refuse the settings they have no use for. With `detector`, the network finds objects: a
    detection head takes the place of all that follows its last features of stride 32. `lite_residuals` adds
    TinyTL's small branch to each inverted residual block.
    """

    name: str = "mobilenet_v2"
    width_multiplier: Annotated[float, Field(gt=0, le=4)] | None = None
    stem_channels: PositiveInt | None = None
    stem_stride: Literal[1, 2] = 2
    stages: Annotated[tuple[StageConfig, ...], Field(min_length=1)] | None = None
    last_channels: Annotated[int, Field(ge=0)] | None = None
    head_channels: Annotated[int, Field(ge=0)] | None = None
    padding: Literal["tf_same", "symmetric"] = "tf_same"
    init: Literal["kaiming_uniform", "he_fan_out"] = "kaiming_uniform"
    lite_residuals: bool = False
    detector: DetectorConfig | None = None
