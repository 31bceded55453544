"""Layers that work on the first channels of one full-size parameter each.

A network built from `ELASTIC_LAYERS` holds the weights of its whole family once. `activate` chooses the
member; `slice_into` copies a member out into plain layers (Cai et al., ICLR 2022, section 3.2).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.average import AVERAGE
from trainer.methods.calibration import norm_statistics
from trainer.models.blocks import LayerTypes
from trainer.models.network import InvertedResidualNetwork, NetworkTable


class ElasticConv2d(nn.Conv2d):
    """Convolution by the slice [:active_out, :channels of the input]; depthwise: [:channels of the input].

    Unused channels get a zero gradient, not None: momentum and weight decay act on them in every step.
    """

    active_out: int | None = None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's own name
        """Float [N, channels, H, W] to [N, active_out, H', W']."""
        channels = input.shape[1]
        if self.groups > 1:
            weight, groups = self.weight[:channels], channels
        else:
            weight, groups = self.weight[: self.active_out, :channels], 1
        bias = None if self.bias is None else self.bias[: weight.shape[0]]
        return functional.conv2d(input, weight, bias, self.stride, self.padding, self.dilation, groups)


class ProportionalConv2d(ElasticConv2d):
    """Convolution whose active outputs are to its active inputs as all are to all."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's own name
        """Float [N, channels, H, W] to [N, channels * out_channels / in_channels, H', W']."""
        self.active_out = input.shape[1] * self.out_channels // self.in_channels
        return super().forward(input)


class ElasticBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm by the first entries of its parameters and statistics, as many as the input has channels."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's own name
        """Float [N, channels, H, W], normalised."""
        channels = input.shape[1]
        mean, variance = norm_statistics(self)
        return functional.batch_norm(
            input,
            mean[:channels],
            variance[:channels],
            self.weight[:channels],
            self.bias[:channels],
            self.training,
            self.momentum or 0.0,
            self.eps,
        )


class ElasticLinear(nn.Linear):
    """Linear layer by the slice [:active_out, :features of the input] of its weight."""

    active_out: int | None = None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's own name
        """Float [..., features] to [..., active_out]."""
        bias = None if self.bias is None else self.bias[: self.active_out]
        return functional.linear(input, self.weight[: self.active_out, : input.shape[-1]], bias)


ELASTIC_LAYERS = LayerTypes(ElasticConv2d, ElasticBatchNorm2d, ElasticLinear)


_LEAST_SQUEEZE = 16


def widen(table: NetworkTable, width: Callable[[], float], expand: Callable[[], float]) -> NetworkTable:
    """Multiply the widths of `table` by factors, one call of `width` or `expand` for each that is free.

    Free are the outputs of the stem, of blocks without shortcut, of the last convolution and of the head,
    and the expansion of each block. A hidden width is active input width x expand ratio x factor, so that
    the factors compound; a squeeze-and-excitation keeps its share of the hidden width, but not below 16.
    Widths are rounded to the nearest integer (not to multiples of 8).
    """
    stem = round_width(table.stem_channels * width())
    channels = stem
    rows = []
    for row in table.blocks:
        ratio = row.hidden / row.in_channels
        hidden = round_width(channels * ratio * expand()) if row.expands else channels
        out = channels if row.shortcut else round_width(row.out_channels * width())
        squeeze = max(round_width(hidden * row.squeeze / row.hidden), min(row.squeeze, _LEAST_SQUEEZE))
        rows.append(replace(row, in_channels=channels, hidden=hidden, out_channels=out, squeeze=squeeze))
        channels = out
    last = round_width(table.last_channels * width()) if table.last_channels else 0
    head = round_width(table.head_channels * width()) if table.head_channels else 0
    return replace(table, stem_channels=stem, blocks=tuple(rows), last_channels=last, head_channels=head)


def round_width(width: float) -> int:
    """The nearest integer, halves up."""
    return int(width + 0.5 + 1e-9)


def largest(table: NetworkTable, width: Sequence[float], expand: Sequence[float]) -> NetworkTable:
    """The table that contains every one that can be drawn."""
    return widen(table, lambda: max(width), lambda: max(expand))


def draw(table: NetworkTable, width: Sequence[float], expand: Sequence[float], seed: int) -> NetworkTable:
    """Draw every free width uniformly and independently; equal arguments give equal tables."""
    generator = random.Random(seed)
    return widen(table, lambda: generator.choice(width), lambda: generator.choice(expand))


def activate(network: InvertedResidualNetwork, table: NetworkTable) -> None:
    """Make an elastic network compute as the network of `table` does with the first slices of its weights."""
    _set_width(network.stem.conv, table.stem_channels)
    for block, row in zip(network.inverted_blocks, table.blocks, strict=True):
        if block.expand is not None:
            _set_width(block.expand.conv, row.hidden)
        if block.excite is not None:
            _set_width(block.excite.reduce, row.squeeze)
            _set_width(block.excite.expand, row.hidden)
        _set_width(block.project.conv, row.out_channels)
    if network.last is not None:
        _set_width(network.last.conv, table.last_channels)
    if network.head is not None:
        _set_width(network.head, table.head_channels)


def _set_width(conv: nn.Module, channels: int) -> None:
    last = _last(conv)
    assert isinstance(last, ElasticConv2d)
    last.active_out = channels


def _last(conv: nn.Module) -> nn.Module:
    """The layer that gives the output, where a block stands in place of a convolution."""
    return conv[-1] if isinstance(conv, nn.Sequential) else conv


def slice_into(network: nn.Module, elastic: nn.Module) -> None:
    """Load every tensor of `network` with the first slice, of its own shape, of the one of the same name."""
    wide = elastic.state_dict()
    state = {
        name: wide[name][tuple(slice(length) for length in tensor.shape)]
        for name, tensor in network.state_dict().items()
    }
    network.load_state_dict(state)


@torch.no_grad()
def slice_from(elastic: nn.Module, network: nn.Module) -> None:
    """Copy every tensor of `network` into the first channels of the one of the same name in `elastic`."""
    wide = elastic.state_dict()
    for name, tensor in network.state_dict().items():
        wide[name][tuple(slice(length) for length in tensor.shape)] = tensor


def channel_order(consumer: nn.Conv2d) -> Tensor:
    """Order the input channels of a convolution by the L1 norm of all their weights, largest first; int64."""
    return consumer.weight.detach().abs().sum(dim=(0, 2, 3)).argsort(descending=True, stable=True)


@torch.no_grad()
def sort_hidden_channels(
    network: InvertedResidualNetwork, optimizer: torch.optim.Optimizer, *, momentum: bool = True
) -> None:
    """Permute the hidden channels of every expanding block so that the important ones come first.

    Those inside of a squeeze-and-excitation follow. The function of the full-width network does not
    change, nor does that of its average. With `momentum`, the optimizer's buffers are permuted along (the
    authors' code leaves them in place).
    """
    for block in network.inverted_blocks:
        if block.expand is None:
            continue
        expand = _last(block.expand.conv)
        assert isinstance(expand, nn.Conv2d)
        axes: list[Axis] = [
            (expand.weight, 0),
            (block.depthwise.conv.weight, 0),
            (block.project.conv.weight, 1),
        ]
        for norm in (block.expand.norm, block.depthwise.norm):
            axes += [(tensor, 0) for tensor in (norm.weight, norm.bias, *norm_statistics(norm))]
        if block.excite is not None:
            axes += [(block.excite.reduce.weight, 1), *_outputs(block.excite.expand)]
        permute(axes, channel_order(block.project.conv), optimizer, momentum=momentum)
        if block.excite is not None:
            axes = [(block.excite.expand.weight, 1), *_outputs(block.excite.reduce)]
            permute(axes, channel_order(block.excite.expand), optimizer, momentum=momentum)


Axis = tuple[Tensor, int]


def _outputs(conv: nn.Conv2d) -> list[Axis]:
    assert conv.bias is not None
    return [(conv.weight, 0), (conv.bias, 0)]


def permute(axes: list[Axis], order: Tensor, optimizer: torch.optim.Optimizer, *, momentum: bool) -> None:
    """Reorder each tensor along its axis, and its average, with `momentum` all of its optimizer's state."""
    for tensor, axis in axes:
        tensor.copy_(tensor.index_select(axis, order))
        for name, buffer in optimizer.state.get(tensor, {}).items():
            if (momentum or name == AVERAGE) and isinstance(buffer, Tensor) and buffer.shape == tensor.shape:
                buffer.copy_(buffer.index_select(axis, order))
