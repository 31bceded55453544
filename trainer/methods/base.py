"""What a training method is to the training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from trainer.config import ModelConfig, TrainConfig
from trainer.objectives import BatchLoss
from trainer.optim import Restart
from trainer.registry import Registry


@dataclass(frozen=True)
class StepResult:
    """What a step reports: loss and outputs (logits [N, classes]) of the tiny network, both detached."""

    loss: Tensor
    outputs: Tensor


class Method(Protocol):
    """A way to train a tiny network, possibly inside a larger one.

    All randomness must come from `trainer.seeds.derive_seed`, or from torch's global generator, which the
    loop seeds before every step: then a resumed run equals an uninterrupted one. (The generator serves a
    single worker only: with more, the order of their draws is open.) `trainer.workers` copies the method.
    """

    @property
    def network(self) -> nn.Module:
        """The network whose parameters are trained and saved in checkpoints."""

    @property
    def calibration_images(self) -> int:
        """How many training images `tiny_network` wants for its BatchNorm statistics; 0 for none."""

    @property
    def restarts(self) -> tuple[Restart, ...]:
        """Where the learning rate starts anew, by epoch."""

    @property
    def phase(self) -> str:
        """What it is at since the last `start_epoch`, in a word for the log; "" where that never changes."""

    def start_epoch(self, epoch: int, optimizer: Optimizer) -> None:
        """Change the network or its optimizer before epoch `epoch`, counted from 0."""

    def backward(self, images: Tensor, loss: BatchLoss, epoch: int, step: int) -> StepResult:
        """Add the gradients of images, float [N, C, H, W]; `step` counts from 0 over all epochs."""

    def tiny_network(self, batches: Iterable[Tensor]) -> nn.Module:
        """Give a network of the plain architecture in eval mode, independent of the one in training.

        `batches` are varied training images, up to `calibration_images` in all. Before the last epoch, a
        method that has no such network yet gives what it will become one; that is evaluated, not saved.
        """


@dataclass(frozen=True)
class MethodContext:
    """What a method is made from: the plain network, initialised, the configuration, the length of epochs.

    `calibration` gives the batches of `Method.tiny_network`, up to a number of images, to every process the
    same. In `folder` a method may leave further files; None where nothing is to be written.
    """

    plain: nn.Module
    model: ModelConfig
    train: TrainConfig
    steps_per_epoch: int = 1
    calibration: Callable[[int], Iterable[Tensor]] = lambda _count: ()
    folder: Path | None = None


METHODS: Registry[Callable[[MethodContext], Method]] = Registry("method")
"""Method name -> function of a MethodContext."""
