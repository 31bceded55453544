"""Files of a training: the finished tiny network, and the state from which a training goes on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from common.errors import ConfigError, ModelError
from common.files import write_bytes, write_json
from trainer.config import DataConfig, ModelConfig, Section
from trainer.history import EpochRow
from trainer.models import build_network

WEIGHTS = "model.safetensors"
ARCHITECTURE = "model.json"
RESUME = "resume.safetensors"

_STATE = "state"


class Architecture(Section):
    """All that is needed to rebuild a trained network and to feed it; model.json.

    `input_shape` is (C, H, W); `mean` and `std` per channel are of pixels scaled to 0..1; `dataset` names
    the one that was used, and `data` loads it again; `weights_sha256` is of the model.safetensors beside it.
    """

    model: ModelConfig
    data: DataConfig
    dataset: str
    class_names: tuple[str, ...]
    input_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    parameters: int
    macs: int
    weights_sha256: str = ""


def save_network(folder: Path, network: nn.Module, architecture: Architecture) -> None:
    """Write model.safetensors and model.json; `architecture.weights_sha256` is filled in."""
    weights = safetensors.torch.save(_contiguous(network.state_dict()))
    digest = sha256(weights).hexdigest()
    write_bytes(folder / WEIGHTS, weights)
    described = architecture.model_copy(update={"weights_sha256": digest})
    write_json(folder / ARCHITECTURE, described.model_dump(mode="json"))


def load_network(folder: Path) -> tuple[nn.Module, Architecture]:
    """Load the network that a training left in `folder`, in eval mode, on the CPU.

    Raises ModelError where a file is missing or damaged, or the two do not belong together.
    """
    for name in (ARCHITECTURE, WEIGHTS):
        if not (folder / name).is_file():
            raise ModelError(f"{folder / name} is missing: train first (tinyboost train)")
    try:
        architecture = Architecture.model_validate_json((folder / ARCHITECTURE).read_bytes())
    except ValidationError as error:
        raise ModelError(f"{folder / ARCHITECTURE}: damaged: {_first_error(error)}: train anew") from error
    weights = (folder / WEIGHTS).read_bytes()
    if sha256(weights).hexdigest() != architecture.weights_sha256:
        raise ModelError(
            f"{folder / WEIGHTS} is damaged, or not the one that {ARCHITECTURE} describes: train anew"
        )
    network = build_network(architecture.model, architecture.input_shape, len(architecture.class_names))
    try:
        network.load_state_dict(safetensors.torch.load(weights))
    except (RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"{folder / WEIGHTS} does not fit the network in {ARCHITECTURE}: train anew"
        ) from error
    return network.eval(), architecture


@dataclass(frozen=True)
class TrainingState:
    """Where a training stands after `epoch` epochs. Random states are derived from the seed and need no room.

    `settings` are the configuration keys that must be the same for it to go on, dotted.
    """

    epoch: int
    rows: list[EpochRow]
    settings: dict[str, Any]


def save_state(
    folder: Path, state: TrainingState, network: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Write resume.safetensors: weights, buffers, momentum, and `state` as JSON in its header."""
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        momentum = optimizer.state.get(parameter, {}).get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum.{name}"] = momentum
    header = {_STATE: json.dumps(asdict(state))}
    write_bytes(folder / RESUME, safetensors.torch.save(_contiguous(tensors), header))


def remove_state(folder: Path) -> None:
    """Remove what `save_state` wrote."""
    (folder / RESUME).unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what a process that was killed while it saved a state left behind."""
    for path in folder.glob(f".{RESUME}.*"):
        path.unlink()


def load_state(folder: Path, settings: dict[str, Any]) -> tuple[TrainingState, dict[str, Tensor]] | None:
    """Read what `save_state` wrote, None where there is nothing.

    Raises ConfigError where it is damaged, or was written under other settings (named).
    """
    path = folder / RESUME
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            values = json.loads((file.metadata() or {})[_STATE])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        state = TrainingState(
            values["epoch"], [EpochRow(**row) for row in values["rows"]], values["settings"]
        )
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: damaged ({error}): train without --resume") from error
    for key in sorted(state.settings.keys() | settings.keys()):
        before, now = state.settings.get(key), settings.get(key)
        if before != now:
            raise ConfigError(
                f"{path}: was trained with {key} = {before!r}, now it is {now!r}: "
                "restore it, or train without --resume"
            )
    return state, tensors


def restore(tensors: dict[str, Tensor], network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put weights, buffers and momentum of a loaded state back; raises ConfigError where they do not fit."""
    prefix = "network."
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    try:
        network.load_state_dict(own)
        for name, parameter in network.named_parameters():
            momentum = tensors.get(f"momentum.{name}")
            if momentum is not None:
                optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(momentum)
    except RuntimeError as error:
        raise ConfigError(f"{RESUME} is of another network: train without --resume") from error


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _first_error(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else str(first["msg"])
