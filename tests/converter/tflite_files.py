"""Small .tflite files for the tests of what reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
from codegen.model_builder import ModelBuilder
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema


def residual_model() -> bytes:
    """[1, 8, 8, 3] -> conv 4 -> depthwise -> conv 4 -> add -> mean -> fully connected 2 -> softmax."""
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> Any:
        return rng.integers(-127, 128, shape, dtype=np.int8)

    def bias(size: int) -> Any:
        return rng.integers(-500, 500, size, dtype=np.int32)

    b = ModelBuilder()
    x = b.input([1, 8, 8, 3], 0.05, 3)
    maps = [b.tensor([1, 8, 8, 4], scale=0.1, zero_point=-5) for _ in range(4)]
    scales = [0.01, 0.02, 0.03, 0.04]
    b.conv_2d(x, weights(4, 3, 3, 3), bias(4), weight_scale=scales, output=maps[0], activation="relu6")
    b.depthwise_conv_2d(maps[0], weights(1, 3, 3, 4), bias(4), weight_scale=scales, output=maps[1])
    b.conv_2d(maps[1], weights(4, 1, 1, 4), bias(4), weight_scale=scales, output=maps[2])
    b.binary("ADD", maps[0], maps[2], maps[3])
    mean = b.mean(maps[3], [1, 2], True, b.tensor([1, 1, 1, 4], scale=0.1))
    logits = b.tensor([1, 2], scale=0.2)
    b.fully_connected(mean, weights(2, 4), bias(2), weight_scale=[0.02], output=logits)
    return b.build(b.softmax(logits, b.tensor([1, 2], scale=1 / 256, zero_point=-128)))


def edited(data: bytes, edit: Callable[[Any], None]) -> bytes:
    """The same file after `edit` changed its `ModelT`."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    edit(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
