"""Files of a training: the finished tiny network, and the state from which a training goes on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor, nn

from common.errors import CheckpointError, ModelError
from common.files import write_bytes, write_json
from trainer.config import DataConfig, ModelConfig, Section
from trainer.history import EpochRow
from trainer.models import build_network

WEIGHTS = "model.safetensors"
ARCHITECTURE = "model.json"
RESUME = "resume.safetensors"

_STATE = "state"
_NETWORK = "network"


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

    `settings` are the configuration keys that must be the same for it to go on, dotted; `precision` is what
    `trainer.precision` keeps.
    """

    epoch: int
    rows: list[EpochRow]
    settings: dict[str, Any]
    precision: dict[str, float] = field(default_factory=dict)


def save_state(
    folder: Path, state: TrainingState, network: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Write resume.safetensors: weights, buffers, the optimizer's state; its header has `state` as JSON."""
    own = network.state_dict(keep_vars=True)
    tensors = {f"{_NETWORK}.{name}": tensor for name, tensor in own.items()}
    for name, tensor in own.items():
        for kind, value in optimizer.state.get(tensor, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{kind}.{name}"] = value
    header = {_STATE: json.dumps(asdict(state))}
    write_bytes(folder / RESUME, safetensors.torch.save(_contiguous(tensors), header))


def remove_state(folder: Path) -> None:
    """Remove what `save_state` wrote."""
    (folder / RESUME).unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what a process that was killed while it saved a state left behind."""
    for path in folder.glob(f".{RESUME}.*"):
        path.unlink()


def read_state(folder: Path) -> bytes | None:
    """Content of the file that `save_state` wrote, None where there is none."""
    try:
        return (folder / RESUME).read_bytes()
    except FileNotFoundError:
        return None


def load_state(
    content: bytes, folder: Path, settings: dict[str, Any]
) -> tuple[TrainingState, dict[str, Tensor]]:
    """Take apart what `read_state` gave.

    Raises CheckpointError where it is damaged, or was written under other settings (named).
    """
    path = folder / RESUME
    try:
        tensors = safetensors.torch.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        values = json.loads(header["__metadata__"][_STATE])
        values["rows"] = [EpochRow(**row) for row in values["rows"]]
        state = TrainingState(**values)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: damaged ({error})") from error
    for key in sorted(state.settings.keys() | settings.keys()):
        before, now = state.settings.get(key), settings.get(key)
        if before != now:
            raise CheckpointError(
                f"{path}: was trained with {key} = {before!r}, now it is {now!r}",
                "restore it, or train without --resume",
            )
    return state, tensors


def restore(tensors: dict[str, Tensor], network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put weights, buffers and the optimizer's state back; raises CheckpointError where they do not fit."""
    own = network.state_dict(keep_vars=True)
    weights = {}
    try:
        for key, value in tensors.items():
            kind, _, name = key.partition(".")
            tensor = own[name]
            if kind == _NETWORK:
                weights[name] = value
            elif value.ndim:
                optimizer.state[tensor][kind] = torch.empty_like(tensor, requires_grad=False).copy_(value)
            else:  # a number, like Adam's count of steps
                optimizer.state[tensor][kind] = value.to(tensor.device)
        network.load_state_dict(weights)
    except (RuntimeError, KeyError) as error:
        raise CheckpointError(f"{RESUME} is of another network") from error


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _first_error(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else str(first["msg"])
