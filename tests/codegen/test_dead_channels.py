from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_builder import ModelBuilder
from oracle import assert_bit_exact, preserved_tensors, random_inputs

from converter.codegen.dead_channels import without_dead_channels
from converter.codegen.intervals import graph_intervals
from converter.tflite_reader import parse_graph

SCALE = 0.05


def _switched_off(rng: np.random.Generator, channels: int) -> np.ndarray[Any, Any]:
    """Most channels, so that few remain; sometimes all of them, or none."""
    off: np.ndarray[Any, Any] = rng.random(channels) < rng.choice(
        [0.0, 0.5, 0.8, 1.0], p=[0.1, 0.4, 0.4, 0.1]
    )
    return off


def _conv(builder: ModelBuilder, rng: np.random.Generator, data: int, shape: list[int], kernel: int) -> int:
    """A convolution whose channels are partly constant, some of them other than the zero point."""
    depth, channels = shape[3], int(rng.integers(1, 25))
    weights = rng.integers(-127, 128, (channels, kernel, kernel, depth)).astype(np.int8)
    bias = rng.integers(-3000, 3000, channels).astype(np.int32)
    off = _switched_off(rng, channels)
    weights[off] = 0
    bias[off] = rng.choice([-50_000, 0, 9_000, 60_000], int(off.sum()))
    shape[3] = channels
    output = builder.tensor(shape, "int8", SCALE, -128)
    return builder.conv_2d(
        data,
        weights,
        bias if rng.random() < 0.8 or off.any() else None,
        weight_scale=[0.001] * channels,
        output=output,
        activation="relu",
    )


def _depthwise(builder: ModelBuilder, rng: np.random.Generator, data: int, shape: list[int]) -> int:
    channels = shape[3]
    weights = rng.integers(-127, 128, (1, 3, 3, channels)).astype(np.int8)
    weights[..., rng.random(channels) < 0.2] = 0
    bias = rng.integers(-20_000, 20_000, channels).astype(np.int32)
    output = builder.tensor(shape, "int8", SCALE, -128)
    return builder.depthwise_conv_2d(
        data, weights, bias, weight_scale=[0.005] * channels, output=output, activation="relu"
    )


def _network(seed: int) -> bytes:
    """Convolutions, pointwise and wide, depthwise ones, a sum, a pool and a classifier, in random order."""
    rng = np.random.default_rng(seed)
    builder = ModelBuilder()
    shape = [1, 5, 4, int(rng.integers(1, 9))]
    data = builder.input(list(shape), SCALE, -128)
    for _ in range(int(rng.integers(2, 7))):
        kind = rng.integers(4)
        if kind == 0:
            data = _depthwise(builder, rng, data, shape)
        elif kind == 1:
            data = _conv(builder, rng, data, shape, 3)
        else:
            data = _conv(builder, rng, data, shape, 1)
    if rng.random() < 0.3:
        other = _depthwise(builder, rng, data, shape)
        data = builder.binary("ADD", data, other, builder.tensor(shape, "int8", SCALE * 2, -128))
    return _classifier(builder, rng, data, shape[3])


def _classifier(builder: ModelBuilder, rng: np.random.Generator, data: int, channels: int) -> bytes:
    pooled = builder.tensor([1, 1, 1, channels], "int8", builder.scale_of(data), -128)
    if rng.random() < 0.3:
        builder.mean(data, (1, 2), True, pooled)
    else:
        builder.pool_2d("AVERAGE_POOL_2D", data, output=pooled, window=(5, 4), strides=(5, 4))
    flat = builder.reshape(pooled, builder.tensor([1, channels], "int8", builder.scale_of(data), -128))
    weights = rng.integers(-127, 128, (7, channels)).astype(np.int8)
    bias = rng.integers(-3000, 3000, 7).astype(np.int32)
    logits = builder.fully_connected(
        flat, weights, bias, weight_scale=[0.005], output=builder.tensor([1, 7], "int8", 0.1, 3)
    )
    return builder.build(logits)


@pytest.mark.parametrize("seed", range(8))
def test_networks_with_dead_channels_are_bit_exact(seed: int, tmp_path: Path) -> None:
    assert_bit_exact(_network(seed), tmp_path, rounds=10, seed=seed, sanitized=seed % 4 == 0)


def test_values_stay_within_their_intervals() -> None:
    for seed in range(6):
        data = _network(seed)
        graph = parse_graph(data, "small")
        intervals = graph_intervals(graph)
        rng = np.random.default_rng(seed)
        for _ in range(5):
            values = preserved_tensors(data, graph, random_inputs(graph, rng))
            for index, tensor in values.items():
                channels = tensor.reshape(-1, tensor.shape[-1])
                assert (channels >= intervals[index].low).all()
                assert (channels <= intervals[index].high).all()


def test_only_live_channels_remain() -> None:
    builder = ModelBuilder()
    data = builder.input([1, 4, 4, 3], SCALE, -128)
    weights = np.full((16, 1, 1, 3), 100, dtype=np.int8)
    weights[5:] = 0
    bias = np.full(16, -1000, dtype=np.int32)
    hidden = builder.conv_2d(
        data,
        weights,
        bias,
        weight_scale=[0.001],
        output=builder.tensor([1, 4, 4, 16], "int8", SCALE, -128),
        activation="relu",
    )
    wide = np.ones((2, 3, 3, 16), dtype=np.int8)
    output = builder.tensor([1, 4, 4, 2], "int8", SCALE, 0)
    graph = parse_graph(
        builder.build(builder.conv_2d(hidden, wide, None, weight_scale=[0.01], output=output)), "s"
    )
    reduced = without_dead_channels(graph)
    # Five are alive; three more fill the words.
    assert reduced.tensors[hidden].shape == (1, 4, 4, 8)
    assert reduced.tensors[output].shape == (1, 4, 4, 2)
    assert [o.kind for o in reduced.operators] == ["CONV_2D", "CONV_2D"]
