"""The networks a configuration can name."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from common.errors import ConfigError
from trainer.config import ModelConfig
from trainer.models.network import InputShape
from trainer.registry import Registry

Builder = Callable[[ModelConfig, InputShape, int], nn.Module]

MODELS: Registry[Builder] = Registry("model")
"""Model name -> function of (configuration, input shape (C, H, W), number of classes)."""

_FOR_ALL = frozenset({"name", "init"})


def register_model(name: str) -> Callable[[Builder], Builder]:
    """Let `[model] name` mean the decorated function; raises ValueError where the name is taken.

    The function gives the network for a configuration, an input shape (C, H, W) and a number of classes.
    `trainer.models.initialise` draws its weights anew afterwards.
    """

    def register(builder: Builder) -> Builder:
        MODELS.register(name, builder)
        return builder

    return register


def refuse_unused(config: ModelConfig, *used: str) -> None:
    """Raise ConfigError for a setting other than its default that the network has no use for."""
    for name, field in ModelConfig.model_fields.items():
        if name not in _FOR_ALL and name not in used and getattr(config, name) != field.default:
            raise ConfigError(
                f"model {config.name!r} has a fixed architecture and takes no model.{name}: remove it"
            )
