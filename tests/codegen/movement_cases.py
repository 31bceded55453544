"""Random operators that only move values."""

from __future__ import annotations

import numpy as np
from model_builder import ModelBuilder
from operator_cases import Rng

SCALE, ZERO_POINT = 0.1, 3


def _shape(rng: Rng, rank: int, most: int = 7) -> list[int]:
    return [int(size) for size in rng.integers(1, most + 1, rank)]


def _rank(rng: Rng, most: int = 4) -> int:
    return int(rng.integers(1, most + 1))


def _data(builder: ModelBuilder, rng: Rng, shape: list[int]) -> int:
    """An input of the graph, or something computed in between, whose place the output may take."""
    data = builder.input(shape, SCALE, ZERO_POINT)
    return data if rng.random() < 0.5 else builder.unary("QUANTIZE", data, _target(builder, shape))


def _target(builder: ModelBuilder, shape: list[int]) -> int:
    return builder.tensor(shape, "int8", SCALE, ZERO_POINT)


def _axis(rng: Rng, rank: int) -> tuple[int, int]:
    """An axis, and how the file writes it."""
    axis = int(rng.integers(rank))
    return axis, axis - rank if rng.random() < 0.3 else axis


def concatenation(builder: ModelBuilder, rng: Rng) -> list[int]:
    shape = _shape(rng, _rank(rng))
    axis, written = _axis(rng, len(shape))
    inputs, total = [], 0
    for _ in range(int(rng.integers(1, 5))):
        part = [*shape[:axis], int(rng.integers(1, 20)), *shape[axis + 1 :]]
        total += part[axis]
        if rng.random() < 0.15:
            values = rng.integers(-128, 128, part)
            inputs.append(builder.tensor(part, "int8", SCALE, ZERO_POINT, data=values))
        else:
            inputs.append(_data(builder, rng, part))
    if rng.random() < 0.1:
        inputs[-1] = inputs[0]
        total = sum(builder.shape_of(i)[axis] for i in inputs)
    output = _target(builder, [*shape[:axis], total, *shape[axis + 1 :]])
    return [builder.with_options("CONCATENATION", inputs, output, "ConcatenationOptions", axis=written)]


def pack(builder: ModelBuilder, rng: Rng) -> list[int]:
    shape = _shape(rng, int(rng.integers(1, 4)))
    axis, written = _axis(rng, len(shape) + 1)
    inputs = [_data(builder, rng, shape) for _ in range(int(rng.integers(1, 4)))]
    output = _target(builder, [*shape[:axis], len(inputs), *shape[axis:]])
    options = {"axis": written, "valuesCount": len(inputs)}
    return [builder.with_options("PACK", inputs, output, "PackOptions", **options)]


def unpack(builder: ModelBuilder, rng: Rng) -> list[int]:
    shape = _shape(rng, int(rng.integers(2, 5)), 5)
    axis, written = _axis(rng, len(shape))
    outputs = [_target(builder, [*shape[:axis], *shape[axis + 1 :]]) for _ in range(shape[axis])]
    options = {"axis": written, "num": shape[axis]}
    builder.with_options("UNPACK", [_data(builder, rng, shape)], outputs, "UnpackOptions", **options)
    return outputs


def split(builder: ModelBuilder, rng: Rng) -> list[int]:
    shape = _shape(rng, _rank(rng))
    axis, written = _axis(rng, len(shape))
    parts = int(rng.integers(1, 4))
    outputs = [_target(builder, shape) for _ in range(parts)]
    data = _data(builder, rng, [*shape[:axis], shape[axis] * parts, *shape[axis + 1 :]])
    inputs = [builder.constant(written), data]
    builder.with_options("SPLIT", inputs, outputs, "SplitOptions", numSplits=parts)
    return outputs


def split_v(builder: ModelBuilder, rng: Rng) -> list[int]:
    shape = _shape(rng, _rank(rng))
    axis, written = _axis(rng, len(shape))
    sizes = _shape(rng, int(rng.integers(1, 4)), 18)
    outputs = [_target(builder, [*shape[:axis], size, *shape[axis + 1 :]]) for size in sizes]
    data = _data(builder, rng, [*shape[:axis], sum(sizes), *shape[axis + 1 :]])
    inputs = [data, builder.constant(sizes), builder.constant(written)]
    builder.with_options("SPLIT_V", inputs, outputs, "SplitVOptions", numSplits=len(sizes))
    return outputs


def slice_(builder: ModelBuilder, rng: Rng) -> list[int]:
    shape = _shape(rng, _rank(rng), 20 if rng.random() < 0.3 else 6)
    begins = [int(rng.integers(size)) for size in shape]
    sizes = [int(rng.integers(1, full - begin + 1)) for full, begin in zip(shape, begins, strict=True)]
    written = [
        -1 if begin + size == full and rng.random() < 0.5 else size
        for full, begin, size in zip(shape, begins, sizes, strict=True)
    ]
    inputs = [_data(builder, rng, shape), builder.constant(begins), builder.constant(written)]
    return [builder.operator("SLICE", inputs, _target(builder, sizes))]


def strided_slice(builder: ModelBuilder, rng: Rng) -> list[int]:
    """Begins and ends of all kinds; drawn anew where nothing would be left."""
    while True:
        shape = _shape(rng, _rank(rng), 9)
        begins = [int(rng.integers(-size - 2, size + 2)) for size in shape]
        ends = [int(rng.integers(-size - 2, size + 3)) for size in shape]
        strides = [int(rng.choice([1, 1, 2, 3, -1, -2])) for _ in shape]
        masks = [int(rng.integers(16)) for _ in range(2)]
        shrink = int(rng.integers(16)) if rng.random() < 0.3 else 0
        ranges: list[slice | int] = []
        for axis, size in enumerate(shape):
            if shrink >> axis & 1:
                begins[axis], strides[axis] = int(rng.integers(-size, size)), 1
                ranges.append(begins[axis])
                masks[0] &= ~(1 << axis)
            else:
                begin = None if masks[0] >> axis & 1 else begins[axis]
                end = None if masks[1] >> axis & 1 else ends[axis]
                ranges.append(slice(begin, end, strides[axis]))
        taken = np.empty(shape, np.int8)[tuple(ranges)]
        if taken.size:
            break
    indices = [builder.constant(values) for values in (begins, ends, strides)]
    options = {"beginMask": masks[0], "endMask": masks[1], "shrinkAxisMask": shrink}
    inputs = [_data(builder, rng, shape), *indices]
    output = _target(builder, list(taken.shape))
    return [builder.with_options("STRIDED_SLICE", inputs, output, "StridedSliceOptions", **options)]


def transpose(builder: ModelBuilder, rng: Rng) -> list[int]:
    shape = _shape(rng, _rank(rng, 5), 5)
    order = [int(axis) for axis in rng.permutation(len(shape))]
    if len(shape) == 5:
        order = [0, 1, 2, 4, 3]  # As channels are shuffled.
    inputs = [_data(builder, rng, shape), builder.constant(order)]
    return [builder.operator("TRANSPOSE", inputs, _target(builder, [shape[axis] for axis in order]))]


def space_to_depth(builder: ModelBuilder, rng: Rng) -> list[int]:
    n, height, width, depth = _shape(rng, 4, 4)
    size = int(rng.integers(1, 4))
    data = _data(builder, rng, [n, height * size, width * size, depth])
    output = _target(builder, [n, height, width, depth * size * size])
    return [builder.with_options("SPACE_TO_DEPTH", [data], output, "SpaceToDepthOptions", blockSize=size)]


def depth_to_space(builder: ModelBuilder, rng: Rng) -> list[int]:
    n, height, width, depth = _shape(rng, 4, 4)
    size = int(rng.integers(1, 4))
    data = _data(builder, rng, [n, height, width, depth * size * size])
    output = _target(builder, [n, height * size, width * size, depth])
    return [builder.with_options("DEPTH_TO_SPACE", [data], output, "DepthToSpaceOptions", blockSize=size)]


def padv2(builder: ModelBuilder, rng: Rng) -> list[int]:
    shape = _shape(rng, _rank(rng), 20 if rng.random() < 0.3 else 5)
    margins = rng.integers(0, 3, (len(shape), 2))
    out = [size + int(sum(margin)) for size, margin in zip(shape, margins, strict=True)]
    value = builder.tensor([1], "int8", SCALE, ZERO_POINT, data=rng.integers(-128, 128, 1))
    inputs = [_data(builder, rng, shape), builder.constant(margins), value]
    return [builder.operator("PADV2", inputs, _target(builder, out))]


def squeeze(builder: ModelBuilder, rng: Rng) -> list[int]:
    size = int(rng.integers(2, 9))
    data = _data(builder, rng, [1, size, 1, 3])
    squeezed = builder.operator("SQUEEZE", [data], _target(builder, [size, 3]))
    axis = builder.constant(1)
    return [builder.operator("EXPAND_DIMS", [squeezed, axis], _target(builder, [size, 1, 3]))]
