"""Expansion: single layers of a network become multi-layer blocks that can be contracted to them again."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

from torch import nn

from common.errors import ConfigError
from trainer.config import ExpansionConfig, Placement
from trainer.methods.netbooster.homotopy import DecayingActivation
from trainer.models import refuse_shared_tensors

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hard_swish": nn.Hardswish,
    "gelu": nn.GELU,
}

Layer = nn.Conv2d | nn.Linear
Leaves = Sequence[tuple[str, nn.Module]]


Pair = tuple[int, int]


class ExpansionError(ConfigError):
    """A network, or a layer of it (named), cannot be expanded."""


class ExpandedLayer(nn.Sequential):
    """The block in place of one layer, ending where the layer ended: before its normalisation.

    `make_original` builds that layer anew. `norm` names the BatchNorm2d that follows in the network, "" where
    there is none: it takes up the bias of a contracted convolution that has no bias of its own.
    """

    def __init__(self, layers: Sequence[nn.Module], make_original: Callable[[], Layer], norm: str) -> None:
        super().__init__(*layers)
        self.make_original = make_original
        self.norm = norm


def expand(network: nn.Module, config: ExpansionConfig) -> nn.Module:
    """Give the giant: a copy of `network` in which some Conv2d or Linear layers are blocks.

    `config` chooses among `config.layers`, or the `expandable_layers`. Weights of new layers are PyTorch's
    defaults. What follows a layer is taken from the order of registration: a convolution without bias must
    have its BatchNorm2d next. Raises ExpansionError, which names the layer, for what cannot be restored, and
    ConfigError for tensors of two names.
    """
    refuse_shared_tensors(network)
    names = expandable_layers(network) if config.layers is None else config.layers
    if not names:
        raise ExpansionError(
            "netbooster found no layer to expand (a 1x1 convolution before a depthwise one, or a widening "
            "linear layer before a narrowing one): name some in train.netbooster.layers, or use method plain"
        )
    leaves = _leaves(network)
    giant = copy.deepcopy(network)
    for index in chosen(len(names), config.fraction, config.placement):
        name = names[index]
        position = next((i for i, (leaf, _) in enumerate(leaves) if leaf == name), None)
        if position is None:
            raise ExpansionError(f"netbooster: the network has no layer {name!r}")
        following = leaves[position:]
        if config.activation:
            activation: nn.Module | None = ACTIVATIONS[config.activation]()
        else:
            activation = _first_activation(following) or _first_activation(leaves)
        giant.set_submodule(name, _expanded(following, config, activation))
    return giant


def expandable_layers(network: nn.Module) -> list[str]:
    """Name the layers that are expanded by default, in the order of registration.

    These are 1x1 convolutions before an activation and a depthwise convolution, as inverted residual blocks
    begin with, and the first layers of feed-forward networks (linear layers that widen, before one that
    narrows back).
    """
    leaves = _leaves(network)
    return [name for i, (name, _) in enumerate(leaves) if _expandable(leaves[i:])]


def chosen(count: int, fraction: float, placement: Placement) -> list[int]:
    """Indices of the floor(count * fraction) candidates, at least one, that are expanded."""
    wanted = max(1, int(count * fraction))
    if placement == "uniform":
        return [index * count // wanted for index in range(wanted)]
    start = {"first": 0, "middle": (count - wanted) // 2, "last": count - wanted}[placement]
    return list(range(start, start + wanted))


def pair(values: tuple[int, ...]) -> Pair:
    """Both values of a setting of a Conv2d, typed."""
    return values[0], values[1]


def _leaves(network: nn.Module) -> Leaves:
    return [(name, module) for name, module in network.named_modules() if not [*module.children()]]


def _expandable(leaves: Leaves) -> bool:
    layer = leaves[0][1]
    kind = nn.Conv2d if isinstance(layer, nn.Conv2d) else nn.Linear
    gap = next((i for i, (_, leaf) in enumerate(leaves[1:], 1) if isinstance(leaf, kind)), len(leaves))
    following = leaves[gap][1] if gap < len(leaves) else None
    if isinstance(layer, nn.Linear) and isinstance(following, nn.Linear):
        narrows = (following.in_features, following.out_features) == (layer.out_features, layer.in_features)
        return narrows and layer.out_features > layer.in_features
    if isinstance(layer, nn.Conv2d) and isinstance(following, nn.Conv2d):
        pointwise = layer.kernel_size == (1, 1) and layer.groups == 1
        depthwise = following.groups == following.in_channels == layer.out_channels
        return pointwise and depthwise and _first_activation(leaves[:gap]) is not None
    return False


def _first_activation(leaves: Leaves) -> nn.Module | None:
    kinds = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.GELU)
    return next((module for _, module in leaves if isinstance(module, kinds)), None)


def _expanded(leaves: Leaves, config: ExpansionConfig, activation: nn.Module | None) -> ExpandedLayer:
    """The block for the first of `leaves`, which the others follow."""
    name, layer = leaves[0]
    if activation is None:
        raise ExpansionError(
            f"netbooster: the network of layer {name!r} has no activation to use: "
            f"set train.netbooster.activation to one of {', '.join(ACTIVATIONS)}"
        )
    if isinstance(layer, nn.Conv2d):
        block = _expanded_conv(name, layer, _following_norm(leaves, layer), config, activation)
        return block.to(layer.weight)
    if isinstance(layer, nn.Linear):
        return _expanded_linear(layer, config, activation).to(layer.weight)
    raise ExpansionError(
        f"netbooster: layer {name!r} is a {type(layer).__name__}; only Conv2d and Linear can be expanded"
    )


def _following_norm(leaves: Leaves, conv: nn.Conv2d) -> str:
    name, norm = leaves[1] if len(leaves) > 1 else ("", None)
    return name if isinstance(norm, nn.BatchNorm2d) and norm.num_features == conv.out_channels else ""


def _expanded_conv(
    name: str, conv: nn.Conv2d, norm: str, config: ExpansionConfig, activation: nn.Module
) -> ExpandedLayer:
    if conv.bias is None and not norm:
        raise ExpansionError(
            f"netbooster: convolution {name!r} has no bias, and no BatchNorm2d follows it: "
            "nothing could take up the bias of its block"
        )
    if conv.dilation != (1, 1) or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        raise ExpansionError(
            f"netbooster: convolution {name!r} has dilation {conv.dilation} and padding {conv.padding!r} "
            f"({conv.padding_mode}): only dilation 1 and padding by numbers of zeros can be restored"
        )
    kernel, stride, padding = pair(conv.kernel_size), pair(conv.stride), pair(conv.padding)
    inner = partial(nn.Conv2d, groups=conv.groups, bias=False)
    spatial = partial(inner, kernel_size=kernel, stride=stride)
    channels, hidden = conv.in_channels, config.ratio * conv.in_channels
    # All padding comes first: then no bias in between meets a padded border, and contraction is exact there.
    if config.block == "basic":
        convs = [spatial(channels, hidden, padding=padding)]
    else:
        groups = hidden if config.block == "inverted_residual" else conv.groups
        convs = [inner(channels, hidden, 1, padding=padding), spatial(hidden, hidden, groups=groups)]
    layers: list[nn.Module] = []
    for layer in convs:
        layers += [layer, nn.BatchNorm2d(hidden), DecayingActivation(activation)]
    layers.append(nn.Conv2d(hidden, conv.out_channels, 1, groups=conv.groups, bias=conv.bias is not None))
    original = partial(
        nn.Conv2d,
        channels,
        conv.out_channels,
        kernel,
        stride,
        padding,
        groups=conv.groups,
        bias=conv.bias is not None,
    )
    return ExpandedLayer(layers, original, norm)


def _expanded_linear(linear: nn.Linear, config: ExpansionConfig, activation: nn.Module) -> ExpandedLayer:
    """Two linear layers, or three in a bottleneck; an inverted residual's depthwise one would only scale."""
    make = partial(nn.Linear, bias=linear.bias is not None)
    hidden = config.ratio * linear.in_features
    widths = [linear.in_features, hidden, linear.out_features]
    if config.block == "bottleneck":
        widths.insert(1, hidden)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [make(before, after), DecayingActivation(activation)]
    return ExpandedLayer(layers[:-1], partial(make, linear.in_features, linear.out_features), "")
