"""Contraction: blocks whose activations have become the identity are multiplied out to single layers."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from common.errors import ModelError
from trainer.methods.calibration import norm_statistics
from trainer.methods.netbooster.expansion import ExpandedLayer, Layer, Pair, pair
from trainer.methods.netbooster.homotopy import DecayingActivation

_TOLERANCE = 1e-3  # of the largest output, float32


class ContractionError(ModelError):
    """A block (named) cannot be contracted exactly, with the reason."""


@dataclass(frozen=True)
class AffineConv:
    """A convolution without groups: `weight` float64 [out, in, kh, kw], `bias` float64 [out].

    A linear layer is one of kernel 1x1.
    """

    weight: Tensor
    bias: Tensor
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)


@torch.no_grad()
def contract(giant: nn.Module, images: Tensor | None = None) -> nn.Module:
    """Give a copy of `giant` in eval mode with the original layer in place of every expanded one.

    It computes what the giant in eval mode does, at borders too, and has the architecture, and so the names
    of the tensors, of the network that was expanded. Computed in float64; the weights keep their dtype.
    Where a layer has no bias, that of the block moves to the running mean of the BatchNorm2d behind it.
    Raises ContractionError while a slope is below 1, or where the outputs for `images`, if given, differ.
    """
    tiny = copy.deepcopy(giant)
    blocks = [(name, module) for name, module in tiny.named_modules() if isinstance(module, ExpandedLayer)]
    for name, block in blocks:
        try:
            original, bias = _contracted(block)
        except ContractionError as error:
            raise ContractionError(f"netbooster cannot contract {name!r}: {error}") from error
        if bias is not None:
            norm = tiny.get_submodule(block.norm)
            assert isinstance(norm, nn.BatchNorm2d)
            norm_statistics(norm)[0].sub_(bias)
        tiny.set_submodule(name, original)
    if images is not None:
        _compare(copy.deepcopy(giant).eval(), tiny.eval(), images)
    return tiny.eval()


def compose(first: AffineConv, second: AffineConv) -> AffineConv:
    """The single convolution that equals `second` after `first`, on every pixel of maps of any size.

    Raises ContractionError where none does: where zeros that pad the map in between are no zeros before it.
    """
    padding = first.padding
    if second.padding != (0, 0):
        if first.weight.shape[2:] != (1, 1) or first.padding != (0, 0):
            raise ContractionError("a padded convolution follows one that is padded or larger than 1x1")
        if first.bias.any():
            raise ContractionError("a padded convolution follows one with a bias or a BatchNorm")
        padding = (second.padding[0] * first.stride[0], second.padding[1] * first.stride[1])
    (rows, columns), (row_step, column_step) = first.weight.shape[2:], first.stride
    out, _, second_rows, second_columns = second.weight.shape
    height, width = rows + (second_rows - 1) * row_step, columns + (second_columns - 1) * column_step
    weight = second.weight.new_zeros(out, first.weight.shape[1], height, width)
    for row in range(second_rows):
        for column in range(second_columns):
            top, left = row * row_step, column * column_step
            weight[:, :, top : top + rows, left : left + columns] += torch.einsum(
                "on,nihw->oihw", second.weight[:, :, row, column], first.weight
            )
    bias = second.bias + second.weight.sum(dim=(2, 3)) @ first.bias
    stride = (first.stride[0] * second.stride[0], first.stride[1] * second.stride[1])
    return AffineConv(weight, bias, stride, padding)


def fold(conv: AffineConv, norm: nn.BatchNorm2d) -> AffineConv:
    """`norm`, in eval mode, after `conv`."""
    if norm.running_mean is None or norm.running_var is None:
        raise ContractionError("a BatchNorm inside it keeps no running statistics")
    mean, variance = norm.running_mean.double(), norm.running_var.double()
    scale = (variance + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight.double()
    shift = norm.bias.double() if norm.affine else torch.zeros_like(mean)
    return replace(
        conv, weight=conv.weight * scale[:, None, None, None], bias=shift + scale * (conv.bias - mean)
    )


def as_affine(layer: Layer) -> AffineConv:
    """`layer` with its groups, if any, spread out to a full weight. Its padding must be numbers of zeros."""
    weight = layer.weight.detach().double()
    bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach().double()
    if isinstance(layer, nn.Linear):
        return AffineConv(weight[:, :, None, None], bias)
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros" or layer.dilation != (1, 1):
        raise ContractionError("a convolution inside it is dilated, or not padded by numbers of zeros")
    full = weight.new_zeros(layer.out_channels, layer.in_channels, *weight.shape[2:])
    groups = zip(
        full.chunk(layer.groups),
        weight.chunk(layer.groups),
        torch.arange(layer.in_channels).chunk(layer.groups),
        strict=True,
    )
    for rows, part, columns in groups:
        rows[:, columns[0] : columns[-1] + 1] = part
    return AffineConv(full, bias, pair(layer.stride), pair(layer.padding))


def _compare(giant: nn.Module, tiny: nn.Module, images: Tensor) -> None:
    """Raise ContractionError for outputs further apart than rounding can explain."""
    expected, got = giant(images), tiny(images)
    difference, largest = (got - expected).abs().max().item(), expected.abs().max().item()
    if difference > _TOLERANCE * largest:
        raise ContractionError(
            f"netbooster: contraction changes outputs of up to {largest:.3g} by {difference:.3g}: "
            "are the BatchNorms of the network registered right behind their convolutions?"
        )


def _contracted(block: ExpandedLayer) -> tuple[Layer, Tensor | None]:
    """The original layer of `block`, and the bias that it cannot hold itself, float64 [out]."""
    product: AffineConv | None = None
    for layer in block:
        if isinstance(layer, DecayingActivation):
            if layer.slope.item() != 1.0:
                raise ContractionError(
                    f"the slope of its activation is {layer.slope.item():.6g}, not 1: finish the decay first"
                )
        elif isinstance(layer, nn.BatchNorm2d) and product is not None:
            product = fold(product, layer)
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            affine = as_affine(layer)
            product = affine if product is None else compose(product, affine)
        else:
            raise ContractionError(f"it contains a {type(layer).__name__}")
    assert product is not None
    original = block.make_original().to(next(block.parameters()))
    if isinstance(original, nn.Linear):
        original.weight.copy_(product.weight[:, :, 0, 0])
    else:
        _load(original, product)
    if original.bias is not None:
        original.bias.copy_(product.bias)
        return original, None
    return original, product.bias if block.norm else None


def _load(conv: nn.Conv2d, product: AffineConv) -> None:
    wanted = (conv.kernel_size, conv.stride, conv.padding)
    got = (tuple(product.weight.shape[2:]), product.stride, product.padding)
    if wanted != got:
        raise ContractionError(
            f"its kernel, stride and padding are {got}, those of the original layer are {wanted}"
        )
    columns = product.weight.chunk(conv.groups, dim=1)
    rows = [column.chunk(conv.groups)[group] for group, column in enumerate(columns)]
    weight = torch.cat(rows)
    if weight.count_nonzero() != product.weight.count_nonzero():
        raise ContractionError(f"it mixes channels across the {conv.groups} groups of the original layer")
    conv.weight.copy_(weight)
