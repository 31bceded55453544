"""Random single operators; a model holds many of them side by side, so that one build tests them all."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from model_builder import ModelBuilder

Rng = np.random.Generator
AddCase = Callable[[ModelBuilder, Rng], int]


def model_of(add_case: AddCase, count: int, seed: int) -> bytes:
    """A model of `count` operators that `add_case` adds, each with inputs and an output of its own."""
    rng = np.random.default_rng(seed)
    builder = ModelBuilder()
    return builder.build(*[add_case(builder, rng) for _ in range(count)])


def _scale(rng: Rng) -> float:
    return float(np.float32(math.exp(rng.uniform(math.log(0.002), math.log(0.5)))))


def _zero_point(rng: Rng) -> int:
    return int(rng.choice([-128, 0, 127, rng.integers(-128, 128)]))


def _input(builder: ModelBuilder, rng: Rng, shape: list[int]) -> tuple[int, float]:
    scale = _scale(rng)
    return builder.input(shape, scale, _zero_point(rng)), scale


def _size(rng: Rng, most: int) -> int:
    return int(rng.integers(1, most + 1))


def _pair(rng: Rng, most: int) -> tuple[int, int]:
    return _size(rng, most), _size(rng, most)


def _weights(
    rng: Rng, shape: list[int], axis: int, per_channel: bool
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int32], list[float]]:
    channels = shape[axis]
    weights = rng.integers(-127, 128, shape).astype(np.int8)
    if rng.random() < 0.2:
        weights = np.where(weights < 0, -127, 127).astype(np.int8)
    bias = rng.integers(-20_000, 20_000, channels).astype(np.int32)
    scales = [_scale(rng) for _ in range(channels if per_channel else 1)]
    if per_channel and rng.random() < 0.2:
        scales[0] *= 1e-7  # As for channels that training has switched off.
    return weights, bias, scales


def _output(builder: ModelBuilder, rng: Rng, shape: list[int], natural_scale: float) -> int:
    """An output whose scale brings values of about `natural_scale` into range, sometimes not at all."""
    scale = natural_scale * math.exp(rng.uniform(-1.5, 1.5)) / 40
    if rng.random() < 0.1:
        scale /= 300
    return builder.tensor(shape, "int8", scale, _zero_point(rng))


def _windowed(
    size: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
    padding: str,
) -> list[int]:
    found = []
    for n, k, s, d in zip(size, kernel, strides, dilations, strict=True):
        found.append(-(-n // s) if padding == "same" else -(-(n - (k - 1) * d) // s))
    return found


def _activation(rng: Rng) -> str:
    return str(rng.choice(["none", "relu", "relu6", "relu_n1_to_1"], p=[0.4, 0.3, 0.2, 0.1]))


def _geometry(rng: Rng) -> dict[str, Any]:
    square = rng.random() < 0.5
    kernel = (3, 3) if square else _pair(rng, 5)
    strides = (1, 1) if rng.random() < 0.4 else _pair(rng, 3)
    dilations = (1, 1) if rng.random() < 0.85 else _pair(rng, 2)
    padding = str(rng.choice(["same", "valid"]))
    size = tuple(
        int(rng.integers(1 if padding == "same" else (k - 1) * d + 1, 13))
        if (k - 1) * d + 1 < 13
        else (k - 1) * d + 1
        for k, d in zip(kernel, dilations, strict=True)
    )
    return {"size": size, "kernel": kernel, "strides": strides, "dilations": dilations, "padding": padding}


def conv_2d(builder: ModelBuilder, rng: Rng) -> int:
    g = _geometry(rng)
    if rng.random() < 0.35:
        g.update(kernel=(1, 1), dilations=(1, 1))
    depth, channels = _size(rng, 20), _size(rng, 20)
    groups = 1
    if rng.random() < 0.1:
        groups = _size(rng, 3)
        depth, channels = depth * groups, channels * groups
    batches = 2 if rng.random() < 0.1 else 1
    data, scale = _input(builder, rng, [batches, *g["size"], depth])
    shape = [channels, *g["kernel"], depth // groups]
    weights, bias, scales = _weights(rng, shape, 0, rng.random() < 0.8)
    natural = scale * max(scales) * 5000 * math.sqrt(math.prod(shape[1:]))
    out = _windowed(g["size"], g["kernel"], g["strides"], g["dilations"], g["padding"])
    output = _output(builder, rng, [batches, *out, channels], natural)
    del g["size"], g["kernel"]
    return builder.conv_2d(
        data,
        weights,
        bias if rng.random() < 0.9 else None,
        weight_scale=scales,
        output=output,
        activation=_activation(rng),
        **g,
    )


def depthwise_conv_2d(builder: ModelBuilder, rng: Rng) -> int:
    g = _geometry(rng)
    g["strides"] = (g["strides"][0], g["strides"][0])
    depth, multiplier = _size(rng, 12), int(rng.choice([1, 1, 1, 2, 3, 8]))
    data, scale = _input(builder, rng, [1, *g["size"], depth])
    shape = [1, *g["kernel"], depth * multiplier]
    weights, bias, scales = _weights(rng, shape, 3, rng.random() < 0.8)
    natural = scale * max(scales) * 5000 * math.sqrt(math.prod(g["kernel"]))
    out = _windowed(g["size"], g["kernel"], g["strides"], g["dilations"], g["padding"])
    output = _output(builder, rng, [1, *out, depth * multiplier], natural)
    del g["size"], g["kernel"]
    return builder.depthwise_conv_2d(
        data,
        weights,
        bias,
        weight_scale=scales,
        output=output,
        activation=_activation(rng),
        multiplier=multiplier,
        **g,
    )


def _loud(rng: Rng, scales: list[float], ratio: float) -> list[float]:
    """Scales of which half make accumulators be multiplied by 1/4 to 350, as training leaves them at times.

    ratio: weight scale with which the accumulators would be the outputs.
    """
    loud = rng.random(len(scales)) < 0.5
    loud[0] = True
    return [
        ratio * 2 ** rng.uniform(-2, 8.5) if channel else own
        for own, channel in zip(scales, loud, strict=True)
    ]


def depthwise_conv_2d_with_loud_channels(builder: ModelBuilder, rng: Rng) -> int:
    size, depth, stride = [_size(rng, 9), _size(rng, 9)], _size(rng, 8), int(rng.integers(1, 3))
    kernel = (3, 3) if rng.random() < 0.5 else _pair(rng, 7)
    data, scale = _input(builder, rng, [1, *size, depth])
    weights, bias, scales = _weights(rng, [1, *kernel, depth], 3, True)
    out = [-(-side // stride) for side in size]
    output_scale = scale * max(scales) * 400
    output = builder.tensor([1, *out, depth], "int8", output_scale, _zero_point(rng))
    return builder.depthwise_conv_2d(
        data,
        weights,
        bias,
        weight_scale=_loud(rng, scales, output_scale / scale),
        output=output,
        strides=(stride, stride),
        activation=_activation(rng),
    )


def depthwise_conv_2d_with_large_kernels(builder: ModelBuilder, rng: Rng) -> int:
    """Kernels of up to 9x9 with a multiplier, dilation or two images."""
    kernel, stride = _pair(rng, 9), int(rng.choice([1, 1, 2, 4]))
    batches, depth, multiplier = (int(rng.choice([1, 1, 2])) for _ in range(3))
    dilations = (1, 1) if stride > 1 else _pair(rng, 3)
    size = [int(rng.integers(1, 15)), int(rng.integers(1, 15))]
    data, scale = _input(builder, rng, [batches, *size, depth])
    weights, bias, scales = _weights(rng, [1, *kernel, depth * multiplier], 3, True)
    natural = scale * max(*scales, 0.002) * 5000 * math.sqrt(math.prod(kernel))
    out = [-(-side // stride) for side in size]
    return builder.depthwise_conv_2d(
        data,
        weights,
        bias,
        weight_scale=scales,
        output=_output(builder, rng, [batches, *out, depth * multiplier], natural),
        strides=(stride, stride),
        dilations=dilations,
        activation=_activation(rng),
        multiplier=multiplier,
    )


def conv_2d_with_loud_channels(builder: ModelBuilder, rng: Rng) -> int:
    kernel, size = int(rng.choice([1, 3])), [_size(rng, 6), _size(rng, 6)]
    depth, channels = _size(rng, 20), _size(rng, 9)
    data, scale = _input(builder, rng, [1, *size, depth])
    weights, bias, scales = _weights(rng, [channels, kernel, kernel, depth], 0, True)
    output_scale = scale * max(scales) * 400
    output = builder.tensor([1, *size, channels], "int8", output_scale, _zero_point(rng))
    return builder.conv_2d(
        data,
        weights,
        bias,
        weight_scale=_loud(rng, scales, output_scale / scale),
        output=output,
        activation=_activation(rng),
    )


def conv_2d_with_groups_or_dilation(builder: ModelBuilder, rng: Rng) -> int:
    batches, groups, dilation = (int(rng.choice([1, 2, 3])) for _ in range(3))
    depth, channels = _size(rng, 8) * groups, _size(rng, 8) * groups
    kernel, size = _pair(rng, 4), [_size(rng, 9), _size(rng, 9)]
    data, scale = _input(builder, rng, [batches, *size, depth])
    weights, bias, scales = _weights(rng, [channels, *kernel, depth // groups], 0, True)
    natural = scale * max(*scales, 0.002) * 5000 * math.sqrt(weights[0].size)
    return builder.conv_2d(
        data,
        weights,
        bias,
        weight_scale=scales,
        output=_output(builder, rng, [batches, *size, channels], natural),
        dilations=(dilation, dilation),
        activation=_activation(rng),
    )


def deep_sums(builder: ModelBuilder, rng: Rng) -> int:
    """Sums of up to 1,600 products of large weights."""
    pixels, channels, kernel = int(rng.choice([1, 2, 4])), _size(rng, 7), int(rng.choice([1, 3]))
    depth = int(rng.integers(300, 1600)) // kernel**2
    data, scale = _input(builder, rng, [1, 1, pixels, depth])
    weights = rng.choice([-127, 126, 127], (channels, kernel, kernel, depth)).astype(np.int8)
    bias = rng.integers(-(10**7), 10**7, channels).astype(np.int32)
    natural = scale * 5000 * math.sqrt(depth) * float(rng.choice([0.01, 0.1]))
    return builder.conv_2d(
        data,
        weights,
        bias,
        weight_scale=[0.01] * channels,
        output=_output(builder, rng, [1, 1, pixels, channels], natural),
        activation=_activation(rng),
    )


def fully_connected(builder: ModelBuilder, rng: Rng) -> int:
    rows, depth, channels = int(rng.choice([1, 1, 2, 5])), _size(rng, 70), _size(rng, 20)
    data, scale = _input(builder, rng, [rows, depth])
    weights, bias, scales = _weights(rng, [channels, depth], 0, rng.random() < 0.2)
    output = _output(builder, rng, [rows, channels], scale * max(scales) * 5000 * math.sqrt(depth))
    return builder.fully_connected(
        data,
        weights,
        bias if rng.random() < 0.8 else None,
        weight_scale=scales,
        output=output,
        activation=_activation(rng),
    )


def add(builder: ModelBuilder, rng: Rng) -> int:
    shape = [1, _size(rng, 6), _size(rng, 6), _size(rng, 12)]
    left, left_scale = _input(builder, rng, shape)
    other = shape if rng.random() < 0.7 else [size if rng.random() < 0.5 else 1 for size in shape]
    right, right_scale = _input(builder, rng, other)
    if rng.random() < 0.5:
        left, right = right, left
    output = _output(builder, rng, shape, (left_scale + right_scale) * 60)
    return builder.binary("ADD", left, right, output, _activation(rng))


def _pool(kind: str, builder: ModelBuilder, rng: Rng) -> int:
    window, padding = _pair(rng, 5), str(rng.choice(["same", "valid"]))
    size = (window[0] + _size(rng, 6) - 1, window[1] + _size(rng, 6) - 1)
    strides, channels = _pair(rng, 3), _size(rng, 9)
    scale, zero_point = _scale(rng), _zero_point(rng)
    data = builder.input([1, *size, channels], scale, zero_point)
    out = _windowed(size, window, strides, (1, 1), padding)
    output = builder.tensor([1, *out, channels], "int8", scale, zero_point)
    return builder.pool_2d(
        kind,
        data,
        output=output,
        window=window,
        strides=strides,
        padding=padding,
        activation=_activation(rng),
    )


def average_pool_2d(builder: ModelBuilder, rng: Rng) -> int:
    return _pool("AVERAGE_POOL_2D", builder, rng)


def max_pool_2d(builder: ModelBuilder, rng: Rng) -> int:
    return _pool("MAX_POOL_2D", builder, rng)


def mean(builder: ModelBuilder, rng: Rng) -> int:
    shape = [1, _size(rng, 8), _size(rng, 8), _size(rng, 12)]
    data, scale = _input(builder, rng, shape)
    axes = [(1, 2), (2, 1), (1, 2), (3,), (1,), (2, 3)][rng.integers(6)]
    keep = bool(rng.random() < 0.5)
    out = [1 if axis in axes else size for axis, size in enumerate(shape) if keep or axis not in axes]
    return builder.mean(data, axes, keep, _output(builder, rng, out, scale * 60))


def pad(builder: ModelBuilder, rng: Rng) -> int:
    shape = [_size(rng, 2), _size(rng, 5), _size(rng, 5), _size(rng, 5)]
    margins = rng.integers(0, 3, (4, 2)).astype(np.int32)
    scale, zero_point = _scale(rng), _zero_point(rng)
    data = builder.input(shape, scale, zero_point)
    out = [size + int(sum(margin)) for size, margin in zip(shape, margins, strict=True)]
    return builder.pad(data, margins, builder.tensor(out, "int8", scale, zero_point))


def softmax(builder: ModelBuilder, rng: Rng) -> int:
    # Beyond 512 near-ties the reference shifts by more than 31 bits, which C++ leaves undefined.
    shape = [_size(rng, 3), 500 if rng.random() < 0.1 else _size(rng, 40)]
    data, _ = _input(builder, rng, shape)
    beta = float(rng.choice([1.0, 0.3, 2.5]))
    return builder.softmax(data, builder.tensor(shape, "int8", 1 / 256, -128), beta)


def _elementwise(kind: str, builder: ModelBuilder, rng: Rng) -> int:
    shape = [1, _size(rng, 5), _size(rng, 9)]
    data, scale = _input(builder, rng, shape)
    return builder.unary(kind, data, _output(builder, rng, shape, scale * 50))


def requantize(builder: ModelBuilder, rng: Rng) -> int:
    return _elementwise("QUANTIZE", builder, rng)


def relu(builder: ModelBuilder, rng: Rng) -> int:
    return _elementwise("RELU", builder, rng)


def relu6(builder: ModelBuilder, rng: Rng) -> int:
    shape = [1, _size(rng, 5), _size(rng, 9)]
    scale, zero_point = _scale(rng), _zero_point(rng)
    return builder.unary(
        "RELU6", builder.input(shape, scale, zero_point), builder.tensor(shape, "int8", scale, zero_point)
    )


def quantize(builder: ModelBuilder, rng: Rng) -> int:
    shape = [1, _size(rng, 40)]
    data = builder.input(shape, None, dtype="float32")
    return builder.unary("QUANTIZE", data, _output(builder, rng, shape, 3.0))


def dequantize(builder: ModelBuilder, rng: Rng) -> int:
    shape = [1, _size(rng, 40)]
    data, _ = _input(builder, rng, shape)
    return builder.unary("DEQUANTIZE", data, builder.tensor(shape, "float32"))


def reshape(builder: ModelBuilder, rng: Rng) -> int:
    rows, columns = _pair(rng, 9)
    scale, zero_point = _scale(rng), _zero_point(rng)
    data = builder.input([1, rows, columns], scale, zero_point)
    flat = builder.reshape(data, builder.tensor([1, rows * columns], "int8", scale, zero_point))
    return builder.unary("RELU", flat, builder.tensor([1, rows * columns], "int8", scale, zero_point))
