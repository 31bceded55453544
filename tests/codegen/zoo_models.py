"""Whole networks of the trainer's zoo as int8 .tflite files, quantized here without TensorFlow.

Weights are random, and so are the statistics of the norms, which then are what the network's own activations
have; ranges are those of some random images.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from codegen.model_builder import ModelBuilder
from torch import Tensor, nn
from torch.nn import functional

from trainer.config import ModelConfig
from trainer.models import InvertedResidualNetwork, build_network
from trainer.models.blocks import ConvNorm, InvertedResidual, SqueezeExcite
from trainer.models.initialise import initialise

IMAGES = 4
CLASSES = 10


class Map(NamedTuple):
    """An activation: float [N, C, H, W] or [N, C] as torch computes it, and its tensor in the file."""

    values: Tensor
    tensor: int


def whole_network(model: ModelConfig, side: int, seed: int = 0) -> bytes:
    """The .tflite of a network of inverted residual blocks: int8 [1, side, side, 3] in, [1, 10] out."""
    network = build_network(model, (3, side, side), CLASSES)
    assert isinstance(network, InvertedResidualNetwork)
    initialise(network, "kaiming_uniform", seed)
    random = torch.Generator().manual_seed(seed)
    images = torch.randn(IMAGES, 3, side, side, generator=random)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
                module.weight.uniform_(0.5, 1.5, generator=random)
                module.bias.normal_(0, 0.6, generator=random)
        network.train()(images)
        return _Quantizer().network(network.eval(), images)


class _Quantizer:
    def __init__(self) -> None:
        self._builder = ModelBuilder()

    def network(self, network: InvertedResidualNetwork, images: Tensor) -> bytes:
        shape = [1, *images.shape[2:], images.shape[1]]
        data = Map(images, self._builder.input(shape, *_steps(images)))
        data = self._conv_norm(data, network.stem)
        for block in network.inverted_blocks:
            data = self._block(data, block)
        if network.last is not None:
            data = self._conv_norm(data, network.last)
        if network.head is None:
            data = self._mean(data, keep_dims=False)
        else:
            data = self._convolution(self._mean(data, keep_dims=True), network.head, network.head_act)
            flat = data.values.flatten(1)
            data = Map(flat, self._builder.reshape(data.tensor, self._like(flat, data)))
        return self._builder.build(self._classifier(data, network.classifier))

    def _block(self, data: Map, block: InvertedResidual) -> Map:
        found = data if block.expand is None else self._conv_norm(data, block.expand)
        found = self._conv_norm(found, block.depthwise)
        if block.excite is not None:
            found = self._squeeze_excite(found, block.excite)
        found = self._conv_norm(found, block.project)
        return self._binary("ADD", data, found) if block.shortcut else found

    def _conv_norm(self, data: Map, layer: ConvNorm) -> Map:
        """A convolution with its norm folded in; what it pads is what TFLite's SAME does."""
        norm = layer.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        conv = layer.conv
        folded = nn.Conv2d(
            conv.in_channels,
            conv.out_channels,
            (conv.kernel_size[0], conv.kernel_size[1]),
            (conv.stride[0], conv.stride[1]),
            (conv.padding[0], conv.padding[1]),
            groups=conv.groups,
        )
        folded.weight.copy_(conv.weight * factor[:, None, None, None])
        assert folded.bias is not None
        folded.bias.copy_(norm.bias - norm.running_mean * factor)
        return self._convolution(data, folded, layer.act, layer.pad(data.values))

    def _convolution(self, data: Map, conv: nn.Conv2d, act: nn.Module, padded: Tensor | None = None) -> Map:
        values = conv(data.values if padded is None else padded)
        is_swish = isinstance(act, nn.Hardswish)
        fused = {nn.ReLU6: "relu6", nn.ReLU: "relu"}.get(type(act), "none")
        values = values if is_swish else act(values)
        depthwise = conv.groups > 1
        weights = conv.weight.permute(1, 2, 3, 0) if depthwise else conv.weight.permute(0, 2, 3, 1)
        scales = (weights.abs().amax(dim=(0, 1, 2) if depthwise else (1, 2, 3)) / 127).numpy()
        per_channel = scales if depthwise else scales[:, None, None, None]
        build = self._builder.depthwise_conv_2d if depthwise else self._builder.conv_2d
        tensor = build(
            data.tensor,
            np.round(weights.numpy() / per_channel).astype(np.int8),
            self._bias(data, conv.bias, scales),
            weight_scale=[float(scale) for scale in scales],
            output=self._tensor(values),
            strides=(conv.stride[0], conv.stride[1]),
            activation=fused,
        )
        if not is_swish:
            return Map(values, tensor)
        swished = act(values)
        return Map(swished, self._builder.unary("HARD_SWISH", tensor, self._tensor(swished)))

    def _squeeze_excite(self, data: Map, layer: SqueezeExcite) -> Map:
        inside = self._convolution(self._mean(data, keep_dims=True), layer.reduce, nn.ReLU())
        gate = self._convolution(inside, layer.expand, nn.Identity())
        three = self._builder.tensor([], "int8", 3 / 127, data=np.array(127))
        sixth = self._builder.tensor([], "int8", 1 / 6 / 127, data=np.array(127))
        shifted = functional.relu6(gate.values + 3)
        tensor = self._builder.binary("ADD", gate.tensor, three, self._tensor(shifted), "relu6")
        share = shifted / 6
        tensor = self._builder.binary("MUL", tensor, sixth, self._tensor(share))
        return self._binary("MUL", data, Map(share, tensor))

    def _binary(self, kind: str, left: Map, right: Map) -> Map:
        values = left.values + right.values if kind == "ADD" else left.values * right.values
        return Map(values, self._builder.binary(kind, left.tensor, right.tensor, self._tensor(values)))

    def _mean(self, data: Map, *, keep_dims: bool) -> Map:
        values = data.values.mean(dim=(2, 3), keepdim=keep_dims)
        return Map(values, self._builder.mean(data.tensor, [1, 2], keep_dims, self._tensor(values)))

    def _classifier(self, data: Map, layer: nn.Linear) -> int:
        values = layer(data.values)
        scale = float(layer.weight.abs().max()) / 127
        return self._builder.fully_connected(
            data.tensor,
            np.round(layer.weight.numpy() / scale).astype(np.int8),
            self._bias(data, layer.bias, np.full(len(layer.weight), scale)),
            weight_scale=[scale],
            output=self._tensor(values),
        )

    def _bias(self, data: Map, bias: Tensor | None, scales: np.ndarray) -> np.ndarray:
        assert bias is not None
        return np.round(bias.numpy() / (self._builder.scale_of(data.tensor) * scales)).astype(np.int32)

    def _like(self, values: Tensor, data: Map) -> int:
        return self._builder.tensor([1, *values.shape[1:]], "int8", *self._builder.steps_of(data.tensor))

    def _tensor(self, values: Tensor) -> int:
        _, channels, *size = values.shape
        return self._builder.tensor([1, *size, channels], "int8", *_steps(values))


def _steps(values: Tensor) -> tuple[float, int]:
    """Scale and zero point of the values' range, which includes 0."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    scale = (high - low) / 255 or 1.0
    return scale, math.floor(-128 - low / scale + 0.5)
