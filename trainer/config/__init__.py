"""The `[data]`, `[model]` and `[train]` sections of a configuration. Imports no torch."""

from trainer.config.data import (
    AugmentConfig,
    DataConfig,
    JitterConfig,
    SpeechCommandsConfig,
    SplitsConfig,
    WebDatasetConfig,
)
from trainer.config.methods import (
    ExpansionConfig,
    NetAugConfig,
    NetBoosterConfig,
    Placement,
    RocketLaunchConfig,
)
from trainer.config.model import Activation, DetectorConfig, ModelConfig, StageConfig
from trainer.config.section import Section
from trainer.config.train import DetectionConfig, DistillationConfig, RegularisationConfig, TrainConfig

__all__ = [
    "Activation",
    "AugmentConfig",
    "DataConfig",
    "DetectionConfig",
    "DetectorConfig",
    "DistillationConfig",
    "ExpansionConfig",
    "JitterConfig",
    "ModelConfig",
    "NetAugConfig",
    "NetBoosterConfig",
    "Placement",
    "RegularisationConfig",
    "RocketLaunchConfig",
    "Section",
    "SpeechCommandsConfig",
    "SplitsConfig",
    "StageConfig",
    "TrainConfig",
    "WebDatasetConfig",
]
