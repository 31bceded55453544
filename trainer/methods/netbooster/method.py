"""NetBooster as a training method: giant, progressive linearization tuning, finetuning."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from common.errors import ConfigError
from trainer.average import averaged
from trainer.checkpoint import WEIGHTS
from trainer.config import ExpansionConfig, NetBoosterConfig
from trainer.methods.base import MethodContext, StepResult
from trainer.methods.initial import start_from
from trainer.methods.netbooster.contraction import contract
from trainer.methods.netbooster.expansion import ExpandedLayer, expand
from trainer.methods.netbooster.giant_file import save_giant, start_giant
from trainer.methods.netbooster.homotopy import is_linear, set_slope, slope_at
from trainer.models.initialise import initialise
from trainer.objectives import BatchLoss
from trainer.optim import Restart
from trainer.seeds import derive_seed

_log = logging.getLogger(__name__)

_PAPER_EPOCHS, _PAPER_GIANT_EPOCHS, _PAPER_DECAY_EPOCHS = 310, 160, 40
_GIANT_DECAY_SHARE = 0.2  # of the epochs on a further dataset
_EXPANSION = set(ExpansionConfig.model_fields)
_COMPARED_IMAGES = 16
_PHASES = ("giant", "decay", "finetuning")


class NetBooster:
    """Trains the giant, then lets its inserted activations decay to the identity, then finetunes.

    The slope of a step is computed from the step's number. Once it is 1, the giant is contracted for each
    evaluation; before, the giant itself is evaluated.
    """

    calibration_images = _COMPARED_IMAGES

    def __init__(self, context: MethodContext) -> None:
        train, config = context.train, context.train.netbooster
        epochs = train.epochs
        self.giant_epochs, self._decay_epochs = _phases(config, epochs)
        self.linear_epoch = self.giant_epochs + self._decay_epochs
        if self.linear_epoch >= epochs:
            raise ConfigError(
                f"train.netbooster: {self.giant_epochs} giant_epochs and {self._decay_epochs} decay_epochs "
                f"leave none of train.epochs {epochs} for finetuning: give fewer of them, or more epochs"
            )
        if 0 < self.giant_epochs <= train.warmup_epochs:
            raise ConfigError(
                f"train.warmup_epochs {train.warmup_epochs} must be less than the "
                f"{self.giant_epochs} giant_epochs of train.netbooster"
            )
        if not self.giant_epochs and config.plt_learning_rate is not None:
            raise ConfigError(
                "train.netbooster.plt_learning_rate starts the rate anew after giant_epochs, but there are "
                "none: set train.learning_rate instead"
            )
        self.phase = ""
        self._steps_per_epoch = context.steps_per_epoch
        restart = Restart(self.giant_epochs, config.plt_learning_rate or train.learning_rate)
        self.restarts = (restart,) if self.giant_epochs else ()
        self._expansion = ExpansionConfig.model_validate(config.model_dump(include=_EXPANSION))
        self._folder = context.folder
        self.network = expand(context.plain, config)
        initialise(self.network, context.model.init, derive_seed(train.seed, "weights"))
        if config.start == "giant":
            start_giant(self.network, self._expansion, train)
        elif train.initial is not None:
            start_from(self.network, train.initial / WEIGHTS, train.seed)
        images = next(iter(context.calibration(_COMPARED_IMAGES)), None)
        if images is not None:
            _try_contraction(self.network, images)

    def start_epoch(self, epoch: int, optimizer: Optimizer) -> None:
        """Keep the giant before its activations decay; log whose the accuracies of the coming epochs are."""
        if epoch == self.giant_epochs > 0 and self._folder is not None:
            with averaged(self.network, optimizer):
                save_giant(self._folder, self.network, self._expansion)
        before = self.phase
        self.phase = _PHASES[(epoch >= self.giant_epochs) + (epoch >= self.linear_epoch)]
        if self.phase == before:
            return
        if self.phase == "finetuning":
            _log.info("netbooster: from now on, accuracies are the contracted network's")
            return
        parameters = sum(parameter.numel() for parameter in self.network.parameters())
        _log.info(
            "netbooster: %s; until epoch %d, accuracies are the giant's (%s parameters), before contraction",
            "training the giant" if self.phase == "giant" else "the inserted activations decay",
            self.linear_epoch,
            f"{parameters:,}",
        )

    def slope(self, step: int) -> float:
        """The slope of the decaying activations in a step, counted from 0 over all epochs."""
        steps = self._steps_per_epoch
        return slope_at(step - self.giant_epochs * steps, self._decay_epochs * steps)

    def backward(self, images: Tensor, loss: BatchLoss, epoch: int, step: int) -> StepResult:  # noqa: ARG002
        """Add the gradients of one batch in the giant, whose loss and logits are reported."""
        set_slope(self.network, self.slope(step))
        logits = self.network(images)
        value = loss(logits)
        torch.autograd.backward(value)
        return StepResult(value.detach(), logits.detach())

    def tiny_network(self, batches: Iterable[Tensor]) -> nn.Module:
        """Give the contracted network where the slope is 1, else a copy of the giant, in eval mode.

        The images only serve to see that contraction does not change the outputs.
        """
        if is_linear(self.network):
            return contract(self.network, next(iter(batches), None))
        return copy.deepcopy(self.network).eval()


def _try_contraction(giant: nn.Module, images: Tensor) -> None:
    """Raise now the ContractionError that would end the training later."""
    trial = copy.deepcopy(giant).to(images.device)
    set_slope(trial, 1.0)
    for block in trial.modules():
        if isinstance(block, ExpandedLayer):
            for norm in block.modules():
                if isinstance(norm, nn.BatchNorm2d):
                    nn.init.ones_(norm.bias)  # so that the block has a bias, which must go to the right place
    contract(trial, images)


def _phases(config: NetBoosterConfig, epochs: int) -> tuple[int, int]:
    """Epochs of the giant and of the decay."""
    from_tiny = config.start == "tiny"
    giant, decay, share = config.giant_epochs, config.decay_epochs, config.decay_share
    if giant is None:
        giant = max(1, epochs * _PAPER_GIANT_EPOCHS // _PAPER_EPOCHS) if from_tiny else 0
    if share is None and not from_tiny:
        share = _GIANT_DECAY_SHARE
    if decay is None and share is not None:
        decay = round(epochs * share)
    if decay is None:
        decay = max(1, epochs * _PAPER_DECAY_EPOCHS // _PAPER_EPOCHS)
    return giant, decay
