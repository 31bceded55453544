"""The model zoo, a file per family. A further one is a file like those here, and its line below."""

from __future__ import annotations

from torch import nn

from trainer.config import ModelConfig
from trainer.models import deit, mcunet, mlperf_tiny, mobilenet_v2, mobilenet_v3, proxyless, resnet
from trainer.models.counting import Cost, count
from trainer.models.network import InputShape, InvertedResidualNetwork, NetworkTable
from trainer.models.registry import MODELS, register_model
from trainer.models.shared_tensors import refuse_shared_tensors

__all__ = [
    "MODELS",
    "Cost",
    "InputShape",
    "InvertedResidualNetwork",
    "NetworkTable",
    "build_network",
    "count",
    "deit",
    "mcunet",
    "mlperf_tiny",
    "mobilenet_v2",
    "mobilenet_v3",
    "proxyless",
    "refuse_shared_tensors",
    "register_model",
    "resnet",
]


def build_network(config: ModelConfig, input_shape: InputShape, classes: int) -> nn.Module:
    """Build the network `config` names, for images of (C, H, W); weights are not yet meaningful.

    With `config.detector`, that is a detector, whose outputs are raw predictions instead of logits.

    Raises ConfigError for an unknown name, for a setting the network has no use for, for images too small
    for the network's strides, or for tensors of two names.
    """
    if config.detector is not None:
        from trainer.detection.network import build_detector  # which itself needs the zoo

        network: nn.Module = build_detector(config, input_shape, classes)
    else:
        network = MODELS.get(config.name)(config, input_shape, classes)
    refuse_shared_tensors(network)
    return network
