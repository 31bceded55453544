"""Which channels of a network have to be as wide as each other, found by tracing it with torch.fx."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import fx, nn
from torch.nn import functional

from common.errors import ConfigError, first_line

Slot = tuple[str, int]
"""A tensor of the state dict, and the axis along which it holds the channels of a group."""


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that share a width: of a convolution or linear layer, and all that the sums tie to it.

    `outputs` hold one value or slice per channel (weights, biases, norms), `inputs` are the weights that
    read them; `producers` name the layers that choose the width. A `hidden` group lies within one branch of
    a sum or product; `parent` is then the index of the group that the branch starts from, None where that
    has a fixed width.
    """

    width: int
    hidden: bool
    parent: int | None
    producers: tuple[str, ...]
    outputs: tuple[Slot, ...]
    inputs: tuple[Slot, ...]


def channel_groups(network: nn.Module) -> tuple[ChannelGroup, ...]:
    """Find the groups whose width is free to change, parents before their children.

    Channels of the input and the output, and those that meet an operation not known here (concatenation,
    attention, reshaping), keep their width. Raises ConfigError where torch.fx cannot trace `network`.
    """
    try:
        graph = fx.Tracer().trace(network)
    except Exception as error:  # whatever the network's own code raises on a proxy
        reason = first_line(error)
        raise ConfigError(
            f"netaug cannot trace {type(network).__name__} with torch.fx ({reason}): use method plain"
        ) from error
    return _Analysis(network).run(graph)


@dataclass(eq=False)
class _Group:
    width: int
    fixed: bool = False
    hidden: bool = False
    merged: _Group | None = None
    source: _Group | None = None  # the group that the first producer reads
    producers: list[str] = field(default_factory=list)
    outputs: list[Slot] = field(default_factory=list)
    inputs: list[Slot] = field(default_factory=list)

    def root(self) -> _Group:
        return self if self.merged is None else self.merged.root()


@dataclass(frozen=True)
class _Value:
    """What a node gives: channels along axis 1 of a map [N, C, H, W], or along the last axis."""

    group: _Group
    is_map: bool


_ELEMENTWISE = (
    nn.Identity,
    nn.Dropout,
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.SiLU,
    nn.GELU,
    nn.Hardswish,
    nn.Hardtanh,
    nn.Sigmoid,
    nn.Hardsigmoid,
    nn.Tanh,
)
_OF_MAPS = (
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.ZeroPad2d,
    nn.Dropout2d,
    nn.Upsample,
    nn.UpsamplingNearest2d,
)
_ELEMENTWISE_FUNCTIONS = {
    *(functional.dropout, functional.relu, functional.relu6, functional.leaky_relu, functional.elu),
    *(functional.silu, functional.gelu, functional.hardswish, functional.hardtanh, functional.sigmoid),
    *(functional.hardsigmoid, functional.tanh, torch.relu, torch.sigmoid, torch.tanh),
    *("relu", "relu_", "sigmoid", "tanh", "contiguous", "clone"),
}
_FUNCTIONS_OF_MAPS = {
    functional.max_pool2d,
    functional.avg_pool2d,
    functional.adaptive_avg_pool2d,
    functional.interpolate,
}
_BINARY = {
    *(operator.add, operator.iadd, operator.sub, operator.mul, operator.imul, operator.truediv),
    *(torch.add, torch.sub, torch.mul, torch.div, "add", "add_", "sub", "mul", "mul_", "div"),
}
_SPATIAL_AXES = ({2, 3}, {-1, -2})
_SPATIAL_PADS = 4


class _Analysis:
    """One pass over the nodes of a graph, in the order in which they run."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._values: dict[fx.Node, _Value] = {}
        self._groups: list[_Group] = []
        self._ancestors: dict[fx.Node, frozenset[fx.Node]] = {}

    def run(self, graph: fx.Graph) -> tuple[ChannelGroup, ...]:
        for node in graph.nodes:
            before = frozenset[fx.Node]().union(*(self._ancestors[other] for other in node.all_input_nodes))
            self._ancestors[node] = before | {node}
            value = self._value(node)
            if value is None:
                self._fix(node.all_input_nodes)
            else:
                self._values[node] = value
        self._fix_shared(graph)
        return self._result()

    def _value(self, node: fx.Node) -> _Value | None:
        """What `node` gives, None for channels of fixed width."""
        if node.op == "call_module":
            return self._of_module(node)
        if node.op not in ("call_function", "call_method"):
            return None
        if node.target in _BINARY:
            return self._of_pair(node)
        value = self._values.get(node.all_input_nodes[0]) if len(node.all_input_nodes) == 1 else None
        if value is None or node.target in _ELEMENTWISE_FUNCTIONS:
            return value
        return _of_map(value, node) if value.is_map else None

    def _of_module(self, node: fx.Node) -> _Value | None:
        name = str(node.target)
        module = self._network.get_submodule(name)
        value = self._values.get(node.all_input_nodes[0]) if node.all_input_nodes else None
        if isinstance(module, nn.Conv2d):
            return self._of_convolution(name, module, value)
        if isinstance(module, nn.Linear):
            return self._of_linear(name, module, value)
        if value is None or isinstance(module, _ELEMENTWISE):
            return value
        if isinstance(module, nn.BatchNorm2d):
            parts = ("weight", "bias", "running_mean", "running_var")
            value.group.root().outputs.extend((f"{name}.{part}", 0) for part in parts)
            return value if module.affine and module.track_running_stats else None
        if isinstance(module, nn.Flatten) and value.is_map:
            return _flattened(value, module.start_dim, module.end_dim)
        return value if value.is_map and isinstance(module, _OF_MAPS) else None

    def _of_linear(self, name: str, linear: nn.Linear, value: _Value | None) -> _Value | None:
        if value is not None and value.is_map:
            return None
        return self._produce(name, linear, linear.out_features, linear.in_features, value, is_map=False)

    def _of_convolution(self, name: str, conv: nn.Conv2d, value: _Value | None) -> _Value | None:
        if conv.padding_mode != "zeros" or (value is not None and not value.is_map):
            return None
        if conv.groups == 1:
            return self._produce(name, conv, conv.out_channels, conv.in_channels, value, is_map=True)
        if value is not None and conv.groups == conv.in_channels == conv.out_channels:
            value.group.root().outputs.extend(_output_slots(name, conv))
            return value
        return None

    def _produce(
        self,
        name: str,
        layer: nn.Conv2d | nn.Linear,
        width: int,
        reads: int,
        value: _Value | None,
        *,
        is_map: bool,
    ) -> _Value:
        """Open the group of a layer's outputs; the layer may read channels of a fixed width (None)."""
        source = None
        if value is not None:
            source = value.group.root()
            source.inputs.append((f"{name}.weight", 1))
            source.fixed |= source.width != reads  # a flattened map
        group = _Group(width, source=source, producers=[name], outputs=_output_slots(name, layer))
        self._groups.append(group)
        return _Value(group, is_map)

    def _of_pair(self, node: fx.Node) -> _Value | None:
        """A sum or product ties what it takes; what only one side depends on is hidden inside of a branch."""
        nodes = node.all_input_nodes
        values = [self._values.get(other) for other in nodes]
        known = [value for value in values if value is not None]
        if len(known) == len(nodes) == 2 and known[0].is_map == known[1].is_map:
            self._tie(known[0].group, known[1].group)
        elif len(nodes) != 1:
            known = []
        own = {value.group.root() for value in values if value is not None}
        if len(nodes) == 2:
            branches = self._ancestors[nodes[0]] ^ self._ancestors[nodes[1]]
            for other in branches & self._values.keys():
                group = self._values[other].group.root()
                group.hidden |= other.target in group.producers and group not in own
        return known[0] if known else None

    @staticmethod
    def _tie(first: _Group, second: _Group) -> None:
        kept, lost = first.root(), second.root()
        if kept is lost:
            return
        if kept.width != lost.width:
            kept.fixed = lost.fixed = True
            return
        lost.merged = kept
        kept.fixed |= lost.fixed
        kept.hidden &= lost.hidden
        kept.producers += lost.producers
        kept.outputs += lost.outputs
        kept.inputs += lost.inputs

    def _fix(self, nodes: Sequence[fx.Node]) -> None:
        for node in nodes:
            if node in self._values:
                self._values[node].group.root().fixed = True

    def _fix_shared(self, graph: fx.Graph) -> None:
        """Fix the groups of layers that are called twice, or whose weights are used outside of a call."""
        calls = [str(node.target) for node in graph.nodes if node.op == "call_module"]
        shared = {name for name in calls if calls.count(name) > 1}
        direct = {node.target for node in graph.nodes if node.op == "get_attr"}
        for group in self._groups:
            for name, _ in (*group.outputs, *group.inputs):
                group.root().fixed |= name in direct or name.rpartition(".")[0] in shared

    def _result(self) -> tuple[ChannelGroup, ...]:
        free = [group for group in self._groups if group.merged is None and not group.fixed]
        ordered = sorted(free, key=lambda group: group.hidden)
        found = []
        for group in ordered:
            parent = group.source.root() if group.source is not None and group.hidden else None
            while parent is not None and parent.hidden:
                parent = parent.source.root() if parent.source is not None else None
            found.append(
                ChannelGroup(
                    group.width,
                    group.hidden,
                    ordered.index(parent) if parent in ordered else None,
                    tuple(group.producers),
                    tuple(group.outputs),
                    tuple(group.inputs),
                )
            )
        return tuple(found)


def _of_map(value: _Value, node: fx.Node) -> _Value | None:
    """What a function makes of a map, None where it is not known here."""
    if node.target in _FUNCTIONS_OF_MAPS:
        return value
    if node.target is functional.pad:
        pads = _argument(node, 1, "pad", ())
        return value if isinstance(pads, Sequence) and len(pads) <= _SPATIAL_PADS else None
    if node.target in (torch.flatten, "flatten"):
        return _flattened(value, _argument(node, 1, "start_dim", 0), _argument(node, 2, "end_dim", -1))
    if node.target in (torch.mean, "mean"):
        dims = _argument(node, 1, "dim", None)
        if isinstance(dims, Sequence) and set(dims) in _SPATIAL_AXES:
            return _Value(value.group, is_map=bool(_argument(node, 2, "keepdim", False)))
    return None


def _flattened(value: _Value, start: object, end: object) -> _Value | None:
    """Features of maps; a linear layer that reads more of them than there are channels fixes the channels."""
    return _Value(value.group, is_map=False) if (start, end) in ((1, -1), (1, 3)) else None


def _argument(node: fx.Node, position: int, name: str, default: object) -> object:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _output_slots(name: str, layer: nn.Conv2d | nn.Linear) -> list[Slot]:
    slots = [(f"{name}.weight", 0)]
    return slots if layer.bias is None else [*slots, (f"{name}.bias", 0)]
