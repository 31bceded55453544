"""Small networks and recipes that several tests share."""

from __future__ import annotations

import torch
from torch import nn

from trainer.config import DataConfig, ModelConfig, NetAugConfig, StageConfig, TrainConfig
from trainer.models import InvertedResidualNetwork, build_network

MODEL = ModelConfig(
    stem_channels=8,
    stem_stride=1,
    stages=(
        StageConfig(expand_ratio=1, channels=8),
        StageConfig(expand_ratio=3, channels=12, blocks=2, stride=2),
        StageConfig(expand_ratio=2, channels=12, blocks=2, kernel=5),
    ),
    last_channels=24,
)
NETAUG = NetAugConfig(width=(1.0, 1.8, 2.6), expand=(1.0, 1.6, 2.2), calibration_images=256)
DATA = DataConfig(name="digits", crop_padding=1, train_limit=512)
TRAIN = TrainConfig(epochs=4, batch_size=64, threads=1, learning_rate=0.2, netaug=NETAUG)
LONG_TRAIN = TRAIN.model_copy(
    update={
        "method": "netaug",
        "epochs": 6,
        "workers": 2,
        "netaug": NETAUG.model_copy(update={"width": (1.0, 1.8)}),
    }
)


def network(model: ModelConfig = MODEL, shape: tuple[int, int, int] = (1, 8, 8)) -> InvertedResidualNetwork:
    built = build_network(model, shape, 10)
    assert isinstance(built, InvertedResidualNetwork)
    return built


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Give weights and statistics values that hide nothing: scales not 1, shifts and means not 0."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.is_floating_point():
            with torch.no_grad():
                scale = tensor[0].numel() ** -0.5 if tensor.ndim > 1 else 0.3
                values = torch.randn(tensor.shape, generator=generator).to(tensor) * scale
                positive = name.endswith(("running_var", "norm.weight"))
                tensor.copy_(values.abs() + 0.5 if positive else values)
