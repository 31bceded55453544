"""CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED as one thing: weights that slide over NHWC data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from converter.codegen.arithmetic import Range, Scale, channel_scales, output_range
from converter.codegen.lowering.case import Case, LayerCode, Names
from converter.codegen.lowering.geometry import Window
from converter.graph import ActivationOptions, Conv2DOptions, DepthwiseConv2DOptions, Tensor

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Convolution:
    """A convolution; output channel c reads the `depth` input channels from (c // per_group) * depth on.

    weights: int64 [channels, kernel height, kernel width, depth]; bias: int64 [channels], as in the file;
    scales: requantization of each channel; bounds: of the outputs; zero_point: of the inputs.
    """

    window: Window
    channels_in: int
    channels: int
    depth: int
    per_group: int
    weights: Integers
    bias: Integers
    scales: tuple[Scale, ...]
    bounds: Range
    zero_point: int

    @property
    def by_channel(self) -> Integers:
        """The weights as [channels, taps]."""
        matrix: Integers = self.weights.reshape(self.channels, -1)
        return matrix

    @property
    def folded_bias(self) -> Integers:
        """Biases that hold the input zero point's share, as if padding had the zero point as value."""
        folded: Integers = self.bias - self.zero_point * self.by_channel.sum(axis=1)
        return folded

    @property
    def extremes(self) -> tuple[Integers, Integers]:
        """Least and greatest accumulator of each channel, over all int8 inputs."""
        w, bias = self.by_channel, self.folded_bias
        low = np.minimum(w * -128, w * 127).sum(axis=1) + bias
        high = np.maximum(w * -128, w * 127).sum(axis=1) + bias
        return low, high


@dataclass(frozen=True)
class Strategy:
    """A way to compute convolutions.

    fits: whether it can compute one exactly; scratch: bytes; in_place: whether the output may take the
    input's place; emit: the code.
    """

    fits: Callable[[Convolution], bool]
    scratch: Callable[[Convolution], int]
    in_place: Callable[[Convolution], bool]
    emit: Callable[[Convolution, Names], LayerCode]


def convolution(case: Case) -> Convolution:
    """The convolution that an operator of one of the three kinds is."""
    data, tensor, output = case.input(0), case.input(1), case.output
    options = case.options
    weights = _constant(tensor)
    channels_in = data.shape[-1]
    if isinstance(options, DepthwiseConv2DOptions):
        weights = np.moveaxis(weights, 3, 0).reshape(*tensor.shape[3:], *tensor.shape[1:3], 1)
        per_group = options.multiplier
    elif isinstance(options, Conv2DOptions):
        per_group = len(weights) // (channels_in // tensor.shape[3])
    else:
        assert isinstance(options, ActivationOptions)
        weights = weights.reshape(len(weights), 1, 1, -1)
        per_group, channels_in = len(weights), weights.shape[3]
    channels, height, width, depth = weights.shape
    if isinstance(options, ActivationOptions):
        window = Window.pointwise(math.prod(data.shape) // depth)
    else:
        window = Window.of(
            data.shape,
            output.shape,
            (height, width),
            strides=options.strides,
            dilations=options.dilations,
            padding=options.padding,
        )
    bias = case.optional_input(2)
    return Convolution(
        window,
        channels_in,
        channels,
        depth,
        per_group,
        weights,
        np.zeros(channels, dtype=np.int64) if bias is None else _constant(bias).reshape(-1),
        tuple(channel_scales(data, tensor, output, channels)),
        output_range(output, options.activation),
        data.zero_point,
    )


def undilated(conv: Convolution) -> Convolution:
    """The same convolution without dilation: zeros stand between the taps."""
    window = conv.window
    if window.dilations == (1, 1):
        return conv
    height, width = ((k - 1) * d + 1 for k, d in zip(window.kernel, window.dilations, strict=True))
    weights = np.zeros((conv.channels, height, width, conv.depth), dtype=np.int64)
    weights[:, :: window.dilations[0], :: window.dilations[1]] = conv.weights
    return replace(conv, weights=weights, window=replace(window, kernel=(height, width), dilations=(1, 1)))


def _constant(tensor: Tensor) -> Integers:
    assert tensor.data is not None
    values: Integers = tensor.data.astype(np.int64)
    return values
