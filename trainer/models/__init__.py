"""The model zoo: networks of inverted residual blocks, declared by tables."""

from __future__ import annotations

from torch import nn

from trainer.config import ModelConfig
from trainer.models.counting import Cost, count
from trainer.models.network import InputShape, InvertedResidualNetwork, NetworkTable
from trainer.models.zoo import MODELS

__all__ = [
    "MODELS",
    "Cost",
    "InputShape",
    "InvertedResidualNetwork",
    "NetworkTable",
    "build_network",
    "count",
]


def build_network(config: ModelConfig, input_shape: InputShape, classes: int) -> nn.Module:
    """Build the network `config` names, for images of (C, H, W); weights are not yet meaningful.

    Raises ConfigError for an unknown name, or for images too small for the network's strides.
    """
    return MODELS.get(config.name)(config, input_shape, classes)
