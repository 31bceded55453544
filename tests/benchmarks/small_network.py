"""The small model of the benchmarks: one of each operator that matters, made without training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from codegen.model_builder import ModelBuilder

MODEL = Path(__file__).resolve().parents[2] / "benchmarks" / "models" / "small_network.tflite"


def small_network() -> bytes:
    """An inverted residual between a strided convolution and a classifier: int8 [1, 16, 16, 3] to [1, 10]."""
    chance = np.random.default_rng(11)
    builder = ModelBuilder()

    def weights(*shape: int) -> npt.NDArray[np.int8]:
        return chance.integers(-127, 128, shape, dtype=np.int8)

    def bias(channels: int) -> npt.NDArray[np.int32]:
        return chance.integers(-800, 800, channels, dtype=np.int32)

    def maps(side: int, channels: int) -> int:
        return builder.tensor([1, side, side, channels], "int8", 0.4, -128)

    image = builder.input([1, 16, 16, 3], 0.05, -3)
    stem, wide, deep, narrow, summed = maps(8, 8), maps(8, 32), maps(8, 32), maps(8, 8), maps(8, 8)
    builder.conv_2d(
        image,
        weights(8, 3, 3, 3),
        bias(8),
        weight_scale=[0.004] * 8,
        output=stem,
        strides=(2, 2),
        activation="relu6",
    )
    builder.conv_2d(
        stem, weights(32, 1, 1, 8), bias(32), weight_scale=[0.01] * 32, output=wide, activation="relu6"
    )
    builder.depthwise_conv_2d(
        wide, weights(1, 3, 3, 32), bias(32), weight_scale=[0.01] * 32, output=deep, activation="relu6"
    )
    builder.conv_2d(deep, weights(8, 1, 1, 32), bias(8), weight_scale=[0.005] * 8, output=narrow)
    builder.binary("ADD", stem, narrow, summed)
    pooled = builder.tensor([1, 8], "int8", 0.4, -128)
    builder.mean(summed, [1, 2], False, pooled)
    logits = builder.tensor([1, 10], "int8", 0.6, 3)
    builder.fully_connected(pooled, weights(10, 8), bias(10), weight_scale=[0.01], output=logits)
    answer = builder.tensor([1, 10], "int8", 1 / 256, -128)
    builder.softmax(logits, answer)
    return builder.build(answer)
