"""Operators that only move values: which bytes go where.

Each of them is a numpy expression on a view of its input or output that has a shape and strides but no
memory behind it, so that one description gives both the shapes and the loops of the generated code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from converter.graph import AxisOptions, BlockOptions, StridedSliceOptions
from converter.shape_case import MismatchError, Shape, ShapeCase, axis_of, integer_list, integers, of_rank


@dataclass(frozen=True)
class Layout:
    """Where the elements of an array lie in a tensor; strides and offset in bytes."""

    shape: Shape
    strides: Shape
    offset: int


@dataclass(frozen=True)
class Move:
    """Values that go from an input (by position) to an output (by position), in order."""

    source: int
    target: int
    source_layout: Layout
    target_layout: Layout


@dataclass(frozen=True)
class Movement:
    """All moves of an operator and the shapes of its outputs."""

    moves: tuple[Move, ...]
    shapes: tuple[Shape, ...]


_View = npt.NDArray[Any]


class _Memoryless:
    """Views of a contiguous tensor that must never be read."""

    def __init__(self, shape: Shape, itemsize: int) -> None:
        self._origin = np.empty(1, dtype=f"V{itemsize}")
        strides = [itemsize * int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape))]
        self.view: _View = np.lib.stride_tricks.as_strided(self._origin, shape, strides)

    def layout(self, view: _View) -> Layout:
        """Where a view derived from `view` lies."""
        offset = view.__array_interface__["data"][0] - self._origin.__array_interface__["data"][0]
        return Layout(view.shape, view.strides, offset)


def _contiguous(shape: Shape, itemsize: int) -> Layout:
    memory = _Memoryless(shape, itemsize)
    return memory.layout(memory.view)


def _gather(
    case: ShapeCase,
    position: int,
    choose: Callable[[_View], Sequence[_View]],
    shape: Shape | None = None,
) -> Movement:
    """Outputs that are each a view of one input; `shape` is the output's, where it is not the view's."""
    data = case.input(position)
    memory = _Memoryless(data.shape, data.dtype.itemsize)
    views = choose(memory.view)
    moves = [
        Move(position, target, memory.layout(view), _contiguous(view.shape, data.dtype.itemsize))
        for target, view in enumerate(views)
    ]
    return Movement(tuple(moves), tuple(shape or view.shape for view in views))


def _scatter(
    case: ShapeCase,
    shape: Shape,
    choose: Callable[[_View], Sequence[_View]],
) -> Movement:
    """An output of which each input fills one view."""
    itemsize = case.input(0).dtype.itemsize
    memory = _Memoryless(shape, itemsize)
    moves = [
        Move(source, 0, _contiguous(view.shape, itemsize), memory.layout(view))
        for source, view in enumerate(choose(memory.view))
    ]
    return Movement(tuple(moves), (shape,))


def _transpose(case: ShapeCase) -> Movement:
    order = integer_list(case.input(1), "a permutation")
    rank = len(case.input(0).shape)
    if sorted(order) != list(range(rank)):
        raise MismatchError(f"has permutation {order} of {rank} dimensions")
    return _gather(case, 0, lambda view: [view.transpose(order)])


def _slice(case: ShapeCase) -> Movement:
    shape = case.input(0).shape
    begins = integer_list(case.input(1), "begins")
    sizes = integer_list(case.input(2), "sizes")
    if not len(begins) == len(sizes) == len(shape):
        raise MismatchError(f"has begins {begins} and sizes {sizes} for {len(shape)} dimensions")
    ends = [
        full if size == -1 else begin + size for full, begin, size in zip(shape, begins, sizes, strict=True)
    ]
    if any(
        not 0 <= begin <= end <= full for full, begin, end in zip(shape, begins, ends, strict=True)
    ) or any(size < -1 for size in sizes):
        raise MismatchError(f"takes sizes {sizes} from {begins} on of {list(shape)}")
    ranges = tuple(slice(*pair) for pair in zip(begins, ends, strict=True))
    return _gather(case, 0, lambda view: [view[ranges]])


def _strided_slice(case: ShapeCase) -> Movement:
    assert isinstance(case.options, StridedSliceOptions)
    options, shape = case.options, case.input(0).shape
    given = [integer_list(case.input(1 + i), what) for i, what in enumerate(("begins", "ends", "strides"))]
    if any(len(values) != len(shape) for values in given) or 0 in given[2]:
        raise MismatchError(f"has begins, ends and strides {given} for {len(shape)} dimensions")
    ranges: list[slice | int] = []
    for axis, (begin, end, stride) in enumerate(zip(*given, strict=True)):
        if options.shrink_mask >> axis & 1:
            ranges.append(axis_of(begin, shape[axis]))
        else:
            start = None if options.begin_mask >> axis & 1 else begin
            ranges.append(slice(start, None if options.end_mask >> axis & 1 else end, stride))
    return _gather(case, 0, lambda view: [view[(*ranges, ...)]])


def _split(case: ShapeCase) -> Movement:
    axis = _constant_axis(case, 0, 1)
    full, count = case.input(1).shape[axis], len(case.outputs)
    if full % count:
        raise MismatchError(f"splits {full} into {count} parts")
    return _parts(case, 1, axis, [full // count] * count)


def _split_v(case: ShapeCase) -> Movement:
    axis = _constant_axis(case, 2, 0)
    full, sizes = case.input(0).shape[axis], integer_list(case.input(1), "sizes")
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = full - sum(sizes) - 1
    if len(sizes) != len(case.outputs) or min(sizes) < 0 or sum(sizes) != full:
        raise MismatchError(f"splits {full} into {sizes} for {len(case.outputs)} outputs")
    return _parts(case, 0, axis, sizes)


def _constant_axis(case: ShapeCase, position: int, data: int) -> int:
    axes = integer_list(case.input(position), "an axis")
    if len(axes) != 1:
        raise MismatchError(f"has axes {axes}")
    return axis_of(axes[0], len(case.input(data).shape))


def _parts(case: ShapeCase, position: int, axis: int, sizes: list[int]) -> Movement:
    ends = np.cumsum(sizes)[:-1]
    return _gather(case, position, lambda view: np.split(view, ends, axis))


def _concatenation(case: ShapeCase) -> Movement:
    assert isinstance(case.options, AxisOptions)
    shapes = [tensor.shape for tensor in case.inputs]
    axis = axis_of(case.options.axis, len(shapes[0]))
    others = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    if len(others) != 1 or len({len(shape) for shape in shapes}) != 1:
        raise MismatchError(f"joins {[list(shape) for shape in shapes]} along axis {axis}")
    sizes = [shape[axis] for shape in shapes]
    joined = (*shapes[0][:axis], sum(sizes), *shapes[0][axis + 1 :])
    return _scatter(case, joined, lambda view: np.split(view, np.cumsum(sizes)[:-1], axis))


def _along(view: _View, axis: int) -> list[_View]:
    first = np.moveaxis(view, axis, 0)
    return [first[index, ...] for index in range(len(first))]


def _pack(case: ShapeCase) -> Movement:
    assert isinstance(case.options, AxisOptions)
    shapes = [tensor.shape for tensor in case.inputs]
    axis = axis_of(case.options.axis, len(shapes[0]) + 1)
    if len(set(shapes)) != 1:
        raise MismatchError(f"packs {[list(shape) for shape in shapes]}")
    packed = (*shapes[0][:axis], len(shapes), *shapes[0][axis:])
    return _scatter(case, packed, lambda view: _along(view, axis))


def _unpack(case: ShapeCase) -> Movement:
    assert isinstance(case.options, AxisOptions)
    shape = case.input(0).shape
    axis = axis_of(case.options.axis, len(shape))
    if shape[axis] != len(case.outputs):
        raise MismatchError(f"unpacks {shape[axis]} into {len(case.outputs)} outputs")
    return _gather(case, 0, lambda view: _along(view, axis))


def _pad(case: ShapeCase) -> Movement:
    shape, margins = case.input(0).shape, integers(case.input(1), "paddings")
    if margins.shape != (len(shape), 2) or (margins < 0).any():
        raise MismatchError(f"has paddings {margins.tolist()} for {len(shape)} dimensions")
    padded = tuple(size + int(sum(margin)) for size, margin in zip(shape, margins, strict=True))
    inside = tuple(
        slice(int(before), int(before) + size) for (before, _), size in zip(margins, shape, strict=True)
    )
    return _scatter(case, padded, lambda view: [view[inside]])


def _space_to_depth(case: ShapeCase) -> Movement:
    assert isinstance(case.options, BlockOptions)
    n, height, width, depth = of_rank(case.input(0), 4)
    size = case.options.size
    if height % size or width % size:
        raise MismatchError(f"has {height}x{width} pixels for blocks of {size}x{size}")
    blocks = (n, height // size, size, width // size, size, depth)
    shape = (n, height // size, width // size, size * size * depth)
    return _gather(case, 0, lambda view: [view.reshape(blocks).swapaxes(2, 3)], shape)


def _depth_to_space(case: ShapeCase) -> Movement:
    assert isinstance(case.options, BlockOptions)
    n, height, width, channels = of_rank(case.input(0), 4)
    size = case.options.size
    depth, rest = divmod(channels, size * size)
    if rest:
        raise MismatchError(f"has {channels} channels for blocks of {size}x{size}")
    blocks = (n, height, width, size, size, depth)
    shape = (n, height * size, width * size, depth)
    return _gather(case, 0, lambda view: [view.reshape(blocks).swapaxes(2, 3)], shape)


# Kind -> number of inputs (None: any number), what it moves.
_KINDS: dict[str, tuple[int | None, Callable[[ShapeCase], Movement]]] = {
    "CONCATENATION": (None, _concatenation),
    "DEPTH_TO_SPACE": (1, _depth_to_space),
    "PACK": (None, _pack),
    "PAD": (2, _pad),
    "PADV2": (3, _pad),
    "SLICE": (3, _slice),
    "SPACE_TO_DEPTH": (1, _space_to_depth),
    "SPLIT": (2, _split),
    "SPLIT_V": (3, _split_v),
    "STRIDED_SLICE": (4, _strided_slice),
    "TRANSPOSE": (2, _transpose),
    "UNPACK": (1, _unpack),
}
MOVEMENTS = tuple(_KINDS)


def movement(case: ShapeCase) -> Movement:
    """What an operator of one of the kinds `MOVEMENTS` moves.

    Raises:
        MismatchError: its tensors contradict each other.
    """
    count, rule = _KINDS[case.kind]
    if not case.given or (count is not None and len(case.given) != count) or not case.outputs:
        raise MismatchError(f"has {len(case.given)} inputs and {len(case.outputs)} outputs")
    found = rule(case)
    if len(found.shapes) != len(case.outputs):
        raise MismatchError(f"has {len(case.outputs)} outputs instead of {len(found.shapes)}")
    moved = [case.input(move.source) for move in found.moves]
    if len({tensor.dtype for tensor in (*moved, *case.outputs)}) != 1:
        raise MismatchError("changes the type of what it moves")
    return found
