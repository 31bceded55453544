"""Families of networks that share one set of weights: what NetAug draws its wider networks from."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import nn
from torch.optim import Optimizer

from common.errors import ConfigError
from trainer.methods import elastic
from trainer.methods.channel_groups import ChannelGroup, channel_groups
from trainer.methods.elastic import ELASTIC_LAYERS, ElasticBatchNorm2d, ElasticConv2d, ElasticLinear
from trainer.models import InvertedResidualNetwork, NetworkTable, refuse_shared_tensors

Factors = Sequence[float]
Widths = tuple[int, ...]
Member = TypeVar("Member")


class Family(Protocol[Member]):
    """The largest network, and its members: those that use the first channels of every layer."""

    @property
    def tiny(self) -> Member:
        """The smallest member."""

    @property
    def network(self) -> nn.Module:
        """The largest network, whose weights are those of all members."""

    def draw(self, width: Factors, expand: Factors, seed: int) -> Member:
        """Draw every free width uniformly and independently; equal arguments give equal members."""

    def activate(self, member: Member) -> None:
        """Make `network` compute as `member` does."""

    def tiny_network(self) -> nn.Module:
        """The smallest member as a network of its own, of plain layers."""

    def sort_hidden(self, optimizer: Optimizer, *, momentum: bool) -> None:
        """Bring the important hidden channels to the front; the largest network's function stays."""


def make_family(plain: nn.Module, width: Factors, expand: Factors) -> Family[Any]:
    """The networks from `plain` to the one that is wider by the largest factors; its weights are new.

    Raises ConfigError for a network that cannot be traced, that has tensors of two names, or no channels
    whose width is free.
    """
    refuse_shared_tensors(plain)
    if isinstance(plain, InvertedResidualNetwork):
        refuse_lite_residuals(plain)
        return TableFamily(plain, width, expand)
    groups = channel_groups(plain)
    if not groups:
        raise ConfigError(
            f"train.method netaug finds no convolution or linear layer to widen in {type(plain).__name__}: "
            "use method plain"
        )
    return GraphFamily(plain, groups, width, expand)


def refuse_lite_residuals(plain: InvertedResidualNetwork) -> None:
    """Raise ConfigError for a network that has them, as they are not widened."""
    if plain.table.lite_residuals:
        raise ConfigError("train.method netaug widens no model.lite_residuals: use method tinytl or plain")


class TableFamily:
    """Networks of inverted residual blocks, widened as their tables are."""

    def __init__(self, plain: InvertedResidualNetwork, width: Factors, expand: Factors) -> None:
        self.tiny = plain.table
        self.network = InvertedResidualNetwork(elastic.largest(plain.table, width, expand), ELASTIC_LAYERS)

    def draw(self, width: Factors, expand: Factors, seed: int) -> NetworkTable:
        """A table between the smallest and the largest."""
        return elastic.draw(self.tiny, width, expand, seed)

    def activate(self, member: NetworkTable) -> None:
        """Set the widths of all layers."""
        elastic.activate(self.network, member)

    def tiny_network(self) -> nn.Module:
        """The first channels, copied."""
        tiny = InvertedResidualNetwork(self.tiny)
        elastic.slice_into(tiny, self.network)
        return tiny.to(self.network.classifier.weight.device)

    def sort_hidden(self, optimizer: Optimizer, *, momentum: bool) -> None:
        """Sort within expanding blocks and squeeze-and-excitations."""
        elastic.sort_hidden_channels(self.network, optimizer, momentum=momentum)


class GraphFamily:
    """Networks of any kind, widened in groups of channels that depend on each other.

    A hidden group's width is base x factor of its parent x a factor of its own from `expand`, as in inverted
    residual blocks; those of others are base x a factor from `width`. All are rounded to integers.
    """

    def __init__(
        self, plain: nn.Module, groups: Sequence[ChannelGroup], width: Factors, expand: Factors
    ) -> None:
        self._plain = plain
        self._groups = tuple(groups)
        self.tiny: Widths = tuple(group.width for group in groups)
        self.network = self._widened(self._widths(lambda: max(width), lambda: max(expand)))

    def draw(self, width: Factors, expand: Factors, seed: int) -> Widths:
        """A width for each group."""
        generator = random.Random(seed)
        return self._widths(lambda: generator.choice(width), lambda: generator.choice(expand))

    def activate(self, member: Widths) -> None:
        """Set the widths of the layers that choose one; the others follow their input."""
        for group, width in zip(self._groups, member, strict=True):
            for name in group.producers:
                layer = self.network.get_submodule(name)
                assert isinstance(layer, ElasticConv2d | ElasticLinear)
                layer.active_out = width

    def tiny_network(self) -> nn.Module:
        """The first channels, copied."""
        tiny = copy.deepcopy(self._plain)
        elastic.slice_into(tiny, self.network)
        return tiny.to(next(self.network.parameters()).device)

    @torch.no_grad()
    def sort_hidden(self, optimizer: Optimizer, *, momentum: bool) -> None:
        """Sort every hidden group by the L1 norm of all weights that read a channel, largest first."""
        tensors = self.network.state_dict(keep_vars=True)
        for group in self._groups:
            if group.hidden and group.inputs:
                weights = [tensors[name].detach().abs().transpose(0, axis) for name, axis in group.inputs]
                importance = torch.stack([weight.flatten(1).sum(1) for weight in weights]).sum(0)
                axes = [(tensors[name], axis) for name, axis in (*group.outputs, *group.inputs)]
                order = importance.argsort(descending=True, stable=True)
                elastic.permute(axes, order, optimizer, momentum=momentum)

    def _widths(self, width: Callable[[], float], expand: Callable[[], float]) -> Widths:
        widths: list[int] = []
        for group in self._groups:
            factor = expand() if group.hidden else width()
            if group.parent is not None:
                factor *= widths[group.parent] / self._groups[group.parent].width
            widths.append(elastic.round_width(group.width * factor))
        return tuple(widths)

    def _widened(self, widths: Widths) -> nn.Module:
        shapes = {name: list(tensor.shape) for name, tensor in self._plain.state_dict().items()}
        layers = set()
        for group, width in zip(self._groups, widths, strict=True):
            for name, axis in (*group.outputs, *group.inputs):
                shapes[name][axis] = width
                layers.add(name.rpartition(".")[0])
        network = copy.deepcopy(self._plain)
        for name in layers:
            network.set_submodule(name, _elastic(network.get_submodule(name), shapes[f"{name}.weight"]))
        return network


def _elastic(layer: nn.Module, shape: Sequence[int]) -> nn.Module:
    """An elastic layer like `layer`, with a weight of another shape."""
    if isinstance(layer, nn.BatchNorm2d):
        return ElasticBatchNorm2d(shape[0], layer.eps, layer.momentum)
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        return ElasticLinear(shape[1], shape[0], bias)
    depthwise = layer.groups > 1
    return ElasticConv2d(
        shape[0] if depthwise else shape[1],
        shape[0],
        layer.kernel_size,  # type: ignore[arg-type] # pairs, typed as tuples of any length
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
        shape[0] if depthwise else 1,
        bias,
    )
