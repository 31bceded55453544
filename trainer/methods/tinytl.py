"""TinyTL: finetune with little memory, by biases and lite residuals beside frozen weights.

Cai et al., TinyTL: Reduce Memory, Not Parameters for Efficient On-Device Learning, NeurIPS 2020.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from common.errors import ConfigError
from trainer.methods.base import MethodContext
from trainer.methods.plain import Plain
from trainer.models.lite_residual import LiteResidual


class TinyTL(Plain):
    """Trains biases, the classifier and, where `model.lite_residuals` is set, the lite residuals.

    All other weights stay as `train.initial` has them, and so do the statistics of BatchNorms, which
    normalise by them also in training. Of the lite residuals, all is learned but the last shift: the block's
    own serves.
    """

    def __init__(self, context: MethodContext) -> None:
        if context.train.initial is None:
            raise ConfigError(
                "train.method tinytl finetunes a trained network: set train.initial to its train/ folder"
            )
        super().__init__(context)
        trained = {id(parameter) for parameter in _trained(self.network)}
        for parameter in self.network.parameters():
            parameter.requires_grad_(id(parameter) in trained)

    def start_epoch(self, epoch: int, optimizer: Optimizer) -> None:  # noqa: ARG002
        """Keep the BatchNorms of the frozen network in eval mode."""
        for module in _norms_outside(self.network):
            module.eval()


def _trained(network: nn.Module) -> Iterator[nn.Parameter]:
    layers = [module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    if not layers:
        raise ConfigError("train.method tinytl finds no classifier in the network: use method plain")
    yield from getattr(network, "classifier", layers[-1]).parameters()
    residuals = [module for module in network.modules() if isinstance(module, LiteResidual)]
    for residual in residuals:
        yield from (p for p in residual.parameters() if p is not residual.project.norm.bias)
    inside = {id(parameter) for residual in residuals for parameter in residual.parameters()}
    for name, parameter in network.named_parameters():
        if name.endswith(".bias") and id(parameter) not in inside:
            yield parameter


def _norms_outside(network: nn.Module) -> Iterator[nn.Module]:
    """The BatchNorms that are in no lite residual."""
    for child in network.children():
        if isinstance(child, _BatchNorm):
            yield child
        elif not isinstance(child, LiteResidual):
            yield from _norms_outside(child)
