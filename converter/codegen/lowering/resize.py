"""RESIZE_NEAREST_NEIGHBOR and RESIZE_BILINEAR: see firmware/kernels/resize.h."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from converter.codegen.lowering.case import (
    Array,
    Case,
    LayerCode,
    Lowering,
    Names,
    braces,
    integers,
    require,
    require_activation,
    require_int8,
)
from converter.graph import ResizeOptions

_MAX_SIZE = 1 << 15
_ONE = 1 << 10


def _check(case: Case) -> None:
    require_activation(case.input(0), case.output)
    require_int8(case.input(0), case.output)
    require(max(*case.input(0).shape, *case.output.shape) < _MAX_SIZE, "has a side of more than 32767 pixels")


def _sizes(case: Case, axis: int) -> tuple[int, int]:
    return case.input(0).shape[axis], case.output.shape[axis]


def _shape(case: Case, names: Names) -> tuple[str, str]:
    """Name and declaration of the shape."""
    name = f"{names.prefix}Shape"
    batches, *size_in, depth = case.input(0).shape
    shape = braces(batches, *size_in, *case.output.shape[1:3], depth)
    return name, f"constexpr kernels::Resize {name} = {shape};"


def _nearest(case: Case, axis: int) -> npt.NDArray[np.uint16]:
    """Which input row or column each one of the output is; float32 as in TFLite."""
    assert isinstance(case.options, ResizeOptions)
    size_in, size_out = _sizes(case, axis)
    aligned = case.options.align_corners and size_out > 1
    scale = np.float32(size_in - aligned) / np.float32(size_out - aligned)
    offset = np.float32(0.5 if case.options.half_pixel_centers else 0)
    position = (np.arange(size_out, dtype=np.float32) + offset) * scale
    rounding = np.float32(0.5 if case.options.align_corners else 0)
    source: npt.NDArray[np.float32] = np.minimum(np.floor(position + rounding), size_in - 1)
    return source.astype(np.uint16)


def _emit_nearest(case: Case, names: Names) -> LayerCode:
    shape, declaration = _shape(case, names)
    call = (
        f"kernels::resize_nearest<{shape}>({names.prefix}Rows, {names.prefix}Columns, {names.inputs[0]}, "
        f"{names.output});"
    )
    arrays = tuple(
        integers(name, "uint16_t", _nearest(case, axis)) for name, axis in (("Rows", 1), ("Columns", 2))
    )
    return LayerCode(("kernels/resize.h",), (call,), arrays, (declaration,))


def _neighbors(case: Case, axis: int) -> list[tuple[int, int, int]]:
    """Two input rows or columns for each one of the output, and the second one's share in 1/1024."""
    assert isinstance(case.options, ResizeOptions)
    size_in, size_out = _sizes(case, axis)
    aligned = case.options.align_corners and size_out > 1
    count_in, count_out = size_in - aligned, size_out - aligned
    scale = (_ONE * count_in + count_out // 2) // count_out
    found = []
    for index in range(size_out):
        position = index * scale
        if case.options.half_pixel_centers:
            position += scale // 2 - _ONE // 2
        low = max(position // _ONE, 0)
        high = min(-(-position // _ONE), size_in - 1)
        found.append((low, max(high, 0), position - _ONE * low))
    return found


def _check_bilinear(case: Case) -> None:
    _check(case)
    # TFLite's scale of 1/1024 is coarse: far from the origin it reads beyond the input.
    fits = all(low < case.input(0).shape[axis] for axis in (1, 2) for low, _, _ in _neighbors(case, axis))
    require(fits, "enlarges so much that TFLite's kernel reads beyond its input")


def _emit_bilinear(case: Case, names: Names) -> LayerCode:
    shape, declaration = _shape(case, names)
    call = (
        f"kernels::resize_bilinear<{shape}>({names.prefix}Rows, {names.prefix}Columns, {names.inputs[0]}, "
        f"{names.output});"
    )
    arrays = []
    for name, axis in (("Rows", 1), ("Columns", 2)):
        neighbors = [braces(*values) for values in _neighbors(case, axis)]
        arrays.append(Array(name, "kernels::Neighbors", neighbors, 6 * len(neighbors)))
    return LayerCode(("kernels/resize.h",), (call,), tuple(arrays), (declaration,))


NEAREST = Lowering(_check, _emit_nearest)
BILINEAR = Lowering(_check_bilinear, _emit_bilinear)
