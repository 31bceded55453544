"""The detector: a backbone and the head of YOLOv3 (Redmon and Farhadi, 2018), as GluonCV builds it.

Each 3x3 convolution of the head is a depthwise 3x3 and a 1x1 convolution, as in the paper on NetAug (Cai et
al., ICLR 2022, section 4).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.errors import ConfigError
from trainer.config import DetectorConfig, ModelConfig
from trainer.detection.backbone import STRIDES, Backbone, Features
from trainer.detection.grid import ANCHORS_PER_CELL, BOX_VALUES
from trainer.models.network import InputShape
from trainer.models.registry import MODELS

_SLOPE = 0.1


class Detector(nn.Module):
    """Gives raw predictions, which `trainer.detection.decode` turns into boxes.

    The parts of the head go from stride 32 to 8: each passes its features on, halved in width and doubled in
    size, to be joined with the backbone's of the next stride.
    """

    def __init__(self, backbone: Backbone, config: DetectorConfig, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classes = classes
        outputs = ANCHORS_PER_CELL * (BOX_VALUES + classes)
        parts, passes, predict = [], [], []
        for index, (channels, width) in enumerate(
            zip(reversed(backbone.channels), config.widths, strict=True)
        ):
            if index:
                passes.append(_conv(config.widths[index - 1], width))
            parts.append(HeadPart(channels + (width if index else 0), width))
            predict.append(Prediction(2 * width, outputs, config.prior))
        self.parts, self.passes, self.predict = (nn.ModuleList(x) for x in (parts, passes, predict))

    def forward(self, x: Tensor) -> Tensor:
        """Float images [N, C, H, W] to [N, predictions, 5 + classes].

        Predictions are ordered by stride 8, 16, 32, then by row, column and anchor; each is the raw centre x
        and y, width, height, objectness, and scores of the classes.
        """
        features: Features = self.backbone(x)
        maps = []
        passed = None
        for index, taken in enumerate(reversed(features)):
            if passed is not None:
                larger = functional.interpolate(
                    self.passes[index - 1](passed), scale_factor=2.0, mode="nearest"
                )
                taken = torch.cat([larger, taken], dim=1)  # noqa: PLW2901
            passed, tip = self.parts[index](taken)
            maps.append(self.predict[index](tip))
        return torch.cat([self._flat(values) for values in reversed(maps)], dim=1)

    def _flat(self, values: Tensor) -> Tensor:
        return values.permute(0, 2, 3, 1).reshape(values.shape[0], -1, BOX_VALUES + self.classes)


class Prediction(nn.Conv2d):
    """The 1x1 convolution behind a tip; all objectnesses start at `prior`, 0..1."""

    def __init__(self, in_channels: int, out_channels: int, prior: float) -> None:
        super().__init__(in_channels, out_channels, 1)
        self.objectness = math.log(prior / (1.0 - prior))

    def reset_bias(self) -> None:
        """Set the bias of the objectnesses; the others are 0."""
        assert self.bias is not None
        with torch.no_grad():
            self.bias.zero_().view(ANCHORS_PER_CELL, -1)[:, BOX_VALUES - 1] = self.objectness


class HeadPart(nn.Module):
    """Five convolutions, alternately 1x1 and separable 3x3, and a further 3x3 one, the tip."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(in_channels, width),
            _separable(width, 2 * width),
            _conv(2 * width, width),
            _separable(width, 2 * width),
            _conv(2 * width, width),
        )
        self.tip = _separable(width, 2 * width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Float [N, in_channels, H, W] to what is passed on, [N, width, H, W], and the tip, twice as wide."""
        passed = self.body(x)
        return passed, self.tip(passed)


def build_detector(model: ModelConfig, input_shape: InputShape, classes: int) -> Detector:
    """Build the detector of a configuration whose `detector` is set, for images of (C, H, W).

    Raises ConfigError for an unknown network, one without features at strides 8, 16 and 32, or images whose
    sides are no multiples of 32.
    """
    assert model.detector is not None
    coarsest = STRIDES[-1]
    if input_shape[1] % coarsest or input_shape[2] % coarsest:
        image = "x".join(str(side) for side in input_shape[1:])
        raise ConfigError(
            f"model.detector divides images into cells of {coarsest}x{coarsest} pixels, which do not tile "
            f"{image}: set data.resolution to a multiple of {coarsest}"
        )
    plain = model.model_copy(update={"detector": None})
    network = MODELS.get(model.name)(plain, input_shape, classes)
    return Detector(Backbone(network, input_shape, model.name), model.detector, classes)


def _conv(in_channels: int, out_channels: int, kernel: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.LeakyReLU(_SLOPE, inplace=True),
    )


def _separable(in_channels: int, out_channels: int) -> nn.Sequential:
    """A depthwise 3x3 convolution and a 1x1 convolution, each with norm and activation."""
    return nn.Sequential(
        _conv(in_channels, in_channels, kernel=3, groups=in_channels), _conv(in_channels, out_channels)
    )
