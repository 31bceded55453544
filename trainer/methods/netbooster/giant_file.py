"""The trained giant as a file, from which progressive linearization tuning starts on another dataset."""

from __future__ import annotations

import json
from pathlib import Path

import safetensors.torch
from torch import nn

from common.errors import ConfigError
from common.files import write_bytes
from trainer.config import ExpansionConfig, TrainConfig
from trainer.methods.initial import read_weights, start_from
from trainer.methods.netbooster.expansion import ExpandedLayer

GIANT = "giant.safetensors"

_EXPANSION = "expansion"


def save_giant(folder: Path, giant: nn.Module, expansion: ExpansionConfig) -> None:
    """Write giant.safetensors: weights and statistics, and in its header how the layers were expanded."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in giant.state_dict().items()}
    write_bytes(folder / GIANT, safetensors.torch.save(tensors, {_EXPANSION: expansion.model_dump_json()}))


def start_giant(giant: nn.Module, expansion: ExpansionConfig, train: TrainConfig) -> None:
    """Load the giant that lies in `train.initial` into one of the same expansion, its classifier if it fits.

    Raises ConfigError where there is none, or where it was expanded in another way (what differs is named).
    """
    if train.initial is None:
        raise ConfigError(
            'train.netbooster.start = "giant" needs train.initial: the train/ folder of a run with method '
            "netbooster"
        )
    path = train.initial / GIANT
    _, texts = read_weights(path)
    saved = json.loads(texts.get(_EXPANSION, "{}"))
    for key, value in json.loads(expansion.model_dump_json()).items():
        if saved.get(key) != value:
            raise ConfigError(
                f"{path}: was expanded with train.netbooster.{key} = {saved.get(key)!r}, now it is "
                f"{value!r}: set it as it was there"
            )
    skipped = start_from(giant, path, train.seed)
    for name, module in giant.named_modules():
        missing = [tensor for tensor in skipped if tensor.startswith(f"{name}.")]
        if isinstance(module, ExpandedLayer) and missing:
            raise ConfigError(f"{path}: has no {missing[0]}: its giant has other layers expanded")
