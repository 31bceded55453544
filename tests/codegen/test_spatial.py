"""TRANSPOSE_CONV, resizing and reductions beside tflite-micro."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from model_builder import ACTIVATIONS, PADDINGS, ModelBuilder
from operator_cases import Rng
from oracle import assert_bit_exact

from common.errors import ModelError
from converter.codegen import check_support
from converter.costs import graph_macs
from converter.tflite_reader import parse_graph

AddCase = Callable[[ModelBuilder, Rng], int]


def _scale(rng: Rng) -> float:
    return float(np.float32(math.exp(rng.uniform(-5, -1))))


def _zero_point(rng: Rng) -> int:
    return int(rng.choice([-128, 0, 127, rng.integers(-128, 128)]))


def _transpose_conv(builder: ModelBuilder, rng: Rng) -> int:
    size, kernel, strides = (rng.integers(1, most, 2) for most in (6, 5, 4))
    depth, channels = (int(count) for count in rng.integers(1, 14, 2))
    padding = str(rng.choice(["same", "valid"]))
    smallest = (size - 1) * strides + kernel
    out = size * strides if padding == "same" else smallest + rng.integers(0, strides)
    data = builder.input([1, *size, depth], _scale(rng), _zero_point(rng))
    scales = [_scale(rng) for _ in range(channels if rng.random() < 0.7 else 1)]
    weights = rng.integers(-127, 128, (channels, *kernel, depth))
    shape = [1, *out, channels]
    inputs = [
        builder.constant(shape),
        builder.tensor(weights.shape, "int8", scales, data=weights),
        data,
    ]
    if rng.random() < 0.7:
        bias = rng.integers(-20_000, 20_000, channels)
        inputs.append(
            builder.tensor([channels], "int32", np.array(scales) * builder.scale_of(data), data=bias)
        )
    natural = builder.scale_of(data) * max(scales) * 5000 * math.sqrt(depth * math.prod(kernel))
    output = builder.tensor(shape, "int8", natural / 40 * math.exp(rng.uniform(-1.5, 1.5)), _zero_point(rng))
    return builder.with_options(
        "TRANSPOSE_CONV",
        inputs,
        output,
        "TransposeConvOptions",
        padding=PADDINGS[padding],
        strideH=int(strides[0]),
        strideW=int(strides[1]),
        fusedActivationFunction=ACTIVATIONS[str(rng.choice(["none", "relu", "relu6"]))],
    )


def _resize(kind: str, builder: ModelBuilder, rng: Rng) -> int:
    batches, height, width, depth = (int(size) for size in rng.integers(1, [3, 9, 9, 7]))
    scale, zero_point = _scale(rng), _zero_point(rng)
    data = builder.input([batches, height, width, depth], scale, zero_point)
    size = [height * 2, width * 2] if rng.random() < 0.3 else [int(n) for n in rng.integers(1, 24, 2)]
    corners, centers = [(False, False), (True, False), (False, True)][rng.integers(3)]
    output = builder.tensor([batches, *size, depth], "int8", scale, zero_point)
    return builder.with_options(
        kind,
        [data, builder.constant(size)],
        output,
        "ResizeBilinearOptions" if kind == "RESIZE_BILINEAR" else "ResizeNearestNeighborOptions",
        alignCorners=corners,
        halfPixelCenters=centers,
    )


def _nearest(builder: ModelBuilder, rng: Rng) -> int:
    return _resize("RESIZE_NEAREST_NEIGHBOR", builder, rng)


def _bilinear(builder: ModelBuilder, rng: Rng) -> int:
    return _resize("RESIZE_BILINEAR", builder, rng)


def _reduction(builder: ModelBuilder, rng: Rng) -> int:
    kind = str(rng.choice(["SUM", "REDUCE_MAX", "REDUCE_MIN"]))
    shape = [int(size) for size in rng.integers(1, 7, 4)]
    axes = [(1, 2), (2, 1), (-3, -2), (3,), (1,), (2, 3), (0, 1, 2, 3), (1, 3)][rng.integers(8)]
    keep = bool(rng.random() < 0.5)
    scale, zero_point = _scale(rng), _zero_point(rng)
    data = builder.input(shape, scale, zero_point)
    reduced = [axis % 4 for axis in axes]
    out = [1 if axis in reduced else size for axis, size in enumerate(shape) if keep or axis not in reduced]
    if kind == "SUM":
        scale, zero_point = scale * float(rng.integers(1, 40)) / 4, _zero_point(rng)
    output = builder.tensor(out, "int8", scale, zero_point)
    inputs = [data, builder.constant(axes)]
    return builder.with_options(kind, inputs, output, "ReducerOptions", keepDims=keep)


def _arg(builder: ModelBuilder, rng: Rng) -> int:
    kind = str(rng.choice(["ARG_MAX", "ARG_MIN"]))
    shape = [int(size) for size in rng.integers(1, 9, int(rng.integers(2, 5)))]
    axis = int(rng.integers(-len(shape), len(shape)))
    out = [size for position, size in enumerate(shape) if position != axis % len(shape)]
    name = "ArgMaxOptions" if kind == "ARG_MAX" else "ArgMinOptions"
    inputs = [builder.input(shape, 0.1, 3), builder.constant(axis)]
    return builder.with_options(kind, inputs, builder.tensor(out, "int32"), name, outputType=2)


KINDS: list[AddCase] = [_transpose_conv, _nearest, _bilinear, _reduction, _arg]


def _model(count: int, seed: int) -> bytes:
    """`count` operators of every kind side by side, each with an input and an output of its own."""
    rng = np.random.default_rng(seed)
    builder = ModelBuilder()
    return builder.build(*[kind(builder, rng) for kind in KINDS for _ in range(count)])


@pytest.mark.parametrize("seed", range(2))
def test_spatial_operators_are_bit_exact(seed: int, tmp_path: Path) -> None:
    assert_bit_exact(_model(24, seed), tmp_path, rounds=4, seed=seed)


def test_spatial_operators_are_free_of_undefined_behaviour(tmp_path: Path) -> None:
    assert_bit_exact(_model(10, 10), tmp_path, rounds=3, seed=11, sanitized=True)


def test_a_transposed_convolution_counts_each_input_times_its_weights() -> None:
    builder = ModelBuilder()
    weights = builder.tensor([5, 3, 3, 4], "int8", 0.1, data=np.ones((5, 3, 3, 4)))
    inputs = [builder.constant([1, 6, 8, 5]), weights, builder.input([1, 3, 4, 4], 0.1)]
    output = builder.tensor([1, 6, 8, 5], "int8", 1.0)
    options = {"padding": PADDINGS["same"], "strideH": 2, "strideW": 2}
    builder.with_options("TRANSPOSE_CONV", inputs, output, "TransposeConvOptions", **options)
    assert graph_macs(parse_graph(builder.build(output), "up")) == 3 * 4 * 4 * 5 * 9


def test_enlarging_beyond_what_the_reference_can_is_refused() -> None:
    builder = ModelBuilder()
    data = builder.input([1, 10, 1, 1], 0.1)
    output = builder.tensor([1, 400, 1, 1], "int8", 0.1)
    inputs = [data, builder.constant([400, 1])]
    builder.with_options("RESIZE_BILINEAR", inputs, output, "ResizeBilinearOptions")
    with pytest.raises(ModelError, match="reads beyond its input"):
        check_support(parse_graph(builder.build(output), "huge"))
