"""A small network and what is made of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn


class SmallNetwork(nn.Module):
    """One inverted residual block between a stem and a classifier: RGB 32x32 to 5 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 8, 3, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU6()
        )
        self.depthwise = nn.Sequential(
            nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU6()
        )
        self.project = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.classifier = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.project(self.depthwise(x))
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits


@dataclass(frozen=True)
class Converted:
    """A network, what was made of it, and samples float32 [N, C, H, W]."""

    network: nn.Module
    onnx: Path
    tflite: Path
    samples: npt.NDArray[np.float32]
