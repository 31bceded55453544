"""Weights of an earlier training, from which a further one starts: `train.initial`."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from common.errors import ConfigError
from trainer.checkpoint import WEIGHTS
from trainer.earlier import earlier_file
from trainer.methods.base import MethodContext
from trainer.seeds import derive_seed

_log = logging.getLogger(__name__)

_NAMED = 4
_BACKBONE = (
    "backbone."  # of a detector, whose layers have the names of the classification network's behind it
)


def start_plain(context: MethodContext) -> bool:
    """Load `train.initial`, where it is given, into the plain network; says whether it is."""
    if context.train.initial is None:
        return False
    start_from(context.plain, context.train.initial / WEIGHTS, context.train.seed)
    return True


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and texts of a safetensors file; raises ConfigError where it is missing or damaged."""
    earlier_file(path.parent, path.name, "train.initial")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            return tensors, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"train.initial: {path} is damaged ({error}): train it anew") from error


def start_from(network: nn.Module, path: Path, seed: int) -> list[str]:
    """Load all tensors of `path` into those of the same name and shape in `network`.

    Gives the names of those that are left out, but for BatchNorm's counters, and logs them.

    A linear layer whose shape is another, like a classifier for other classes, starts from PyTorch's default
    initialisation (Cai et al., ICLR 2022, code). Raises ConfigError where the file is missing or damaged, or
    where nothing in it fits.
    """
    loaded, _ = read_weights(path)
    tensors: dict[str, Tensor] = network.state_dict()
    skipped, other_shape, fitting = [], [], 0
    for name, tensor in tensors.items():
        value = loaded.get(name, loaded.get(name.removeprefix(_BACKBONE)))
        if value is not None and value.shape == tensor.shape:
            tensor.copy_(value)
            fitting += tensor.ndim > 0
        elif tensor.ndim:
            skipped.append(name)
            if value is not None:
                other_shape.append(name)
    if not fitting:
        raise ConfigError(
            f"train.initial: nothing in {path} fits the network: was it trained with another [model]?"
        )
    _reset_linear(network, other_shape, seed)
    _log.info("starting from %s: %d tensors%s", path, fitting, _leaving_out(skipped))
    return skipped


def _reset_linear(network: nn.Module, names: list[str], seed: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "classifier"))
        for name in names:
            layer = network.get_submodule(name.rpartition(".")[0])
            if isinstance(layer, nn.Linear) and name.endswith("weight"):
                layer.reset_parameters()


def _leaving_out(names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"; not there, or of another shape: {', '.join(names[:_NAMED])}{more}"
