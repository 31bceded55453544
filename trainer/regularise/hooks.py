"""Where in a network values are dropped."""

from __future__ import annotations

from torch import nn

from common.errors import ConfigError
from trainer.config import RegularisationConfig
from trainer.regularise.dropping import Draws, DropBlockBehind, Dropout, DropoutBefore, DropoutInstead

_RESOLUTIONS = 2


def attach(network: nn.Module, config: RegularisationConfig, draws: Draws) -> None:
    """Hang hooks on every linear layer `classifier`, on blocks of the last two resolutions, and on dropouts.

    Blocks are modules in a container `blocks` that know their `out_size`; Ghiasi et al. (NeurIPS 2018) drop
    in the last two groups of ResNet-50, whose resolutions are the last two as well. Hooks that were there
    are replaced. Raises ConfigError for a network without the place that is wanted.
    """
    detach(network)
    for layer in dropouts(network):
        layer.inplace = False  # the hook needs the input
        layer.register_forward_hook(DropoutInstead(draws))
    if config.dropout:
        classifiers = _classifiers(network)
        if not classifiers:
            raise ConfigError(
                "train.regularisation.dropout goes before a linear classifier, and the network has none: "
                "set it to 0"
            )
        for classifier in classifiers:
            classifier.register_forward_pre_hook(DropoutBefore(config.dropout, draws))
    if config.dropblock:
        blocks = _late_blocks(network)
        if not blocks:
            raise ConfigError(
                "train.regularisation.dropblock goes behind convolutional blocks, and the network has none: "
                "set it to 0"
            )
        for block in blocks:
            block.register_forward_hook(DropBlockBehind(config.dropblock, config.dropblock_size, draws))


def dropouts(network: nn.Module) -> list[Dropout]:
    """The dropout layers that a network has itself."""
    return [module for module in network.modules() if isinstance(module, Dropout)]


def detach(network: nn.Module) -> None:
    """Remove what `attach` hung on a network, or on the one that it is a copy of."""
    for module in network.modules():
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for key in [
                key
                for key, hook in hooks.items()
                if isinstance(hook, DropoutBefore | DropoutInstead | DropBlockBehind)
            ]:
                del hooks[key]


def _classifiers(network: nn.Module) -> list[nn.Linear]:
    return [
        module
        for name, module in network.named_modules()
        if name.rpartition(".")[2] == "classifier" and isinstance(module, nn.Linear)
    ]


def _late_blocks(network: nn.Module) -> list[nn.Module]:
    sizes = {
        module: module.out_size
        for name, container in network.named_modules()
        if name.rpartition(".")[2] == "blocks"
        for module in container.children()
        if hasattr(module, "out_size")
    }
    late = sorted({height * width for height, width in sizes.values()})[:_RESOLUTIONS]
    return [module for module, (height, width) in sizes.items() if height * width in late]
