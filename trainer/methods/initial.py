"""Weights of an earlier training, from which a further one starts: `train.initial`."""

from __future__ import annotations

import logging
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from common.errors import ConfigError
from trainer.checkpoint import WEIGHTS
from trainer.earlier_training import earlier_file
from trainer.methods.base import MethodContext
from trainer.seeds import derive_seed, seeded

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

    Gives the names of those that are left out, but for BatchNorm's counters, and logs them; others than a
    classifier's that have another shape are a warning.

    A linear layer whose shape is another, like a classifier for other classes, starts from PyTorch's default
    initialisation (Cai et al., ICLR 2022, code). Raises ConfigError where the file is missing or damaged, or
    where it is of another network: less than half fits of either.
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
    total = fitting + len(skipped)
    if not fitting or 2 * fitting < min(total, sum(value.ndim > 0 for value in loaded.values())):
        raise ConfigError(
            f"train.initial: {path} fits the network in {fitting} of {total} tensors: was it trained with "
            "another [model]?"
        )
    layers = [network.get_submodule(name.rpartition(".")[0]) for name in other_shape]
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    with seeded(derive_seed(seed, "classifier")):
        for layer in dict.fromkeys(linear):  # weight and bias name the same one
            layer.reset_parameters()
    level = logging.INFO if len(linear) == len(other_shape) else logging.WARNING
    _log.log(level, "starting from %s: %d of %d tensors%s", path, fitting, total, _leaving_out(skipped))
    return skipped


def _leaving_out(names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"; not there, or of another shape: {', '.join(names[:_NAMED])}{more}"
