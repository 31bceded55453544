"""Networks that are kept along a training's route, each like the one that is saved in the end."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from torch import nn

from trainer.checkpoint import Architecture, save_network

FOLDER = "checkpoints"


def keep(folder: Path, epoch: int, network: nn.Module, architecture: Architecture) -> None:
    """Write the network after `epoch` epochs to checkpoints/epoch_010, where that is 10, in `folder`."""
    save_network(folder / FOLDER / f"epoch_{epoch:03d}", network, architecture)


def forget(folder: Path, after: int) -> None:
    """Remove the networks of epochs beyond `after`."""
    for kept in (folder / FOLDER).glob("epoch_*"):
        found = re.fullmatch(r"epoch_(\d+)", kept.name)
        if found and int(found[1]) > after:
            shutil.rmtree(kept)
