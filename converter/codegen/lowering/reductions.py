"""Pools, MEAN, SUM, REDUCE_MAX, REDUCE_MIN, ARG_MAX, ARG_MIN and SOFTMAX."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from converter.codegen.arithmetic import Scale, output_range, quantize_scale
from converter.codegen.lowering.case import (
    Array,
    Case,
    LayerCode,
    Lowering,
    Names,
    braces,
    cpp_range,
    cpp_scale,
    require,
    require_activation,
    require_int8,
)
from converter.codegen.lowering.geometry import Window
from converter.codegen.transcendental import softmax_table
from converter.graph import PoolOptions, SoftmaxOptions

# Beyond that the sum of the exponentials leaves its fixed-point format.
_MAX_SOFTMAX_DEPTH = 4095
# As many int8 values fit, summed, a 16-bit lane.
_MAX_LANE_TAPS = 256


def _check_unary(case: Case) -> None:
    require_activation(case.input(0), case.output)
    require_int8(case.input(0), case.output)


def _same_steps(case: Case) -> bool:
    data, output = case.input(0), case.output
    return data.scale == output.scale and data.zero_point == output.zero_point


def _check_pool(case: Case) -> None:
    _check_unary(case)
    require(_same_steps(case), "has input and output of different quantization")


def _pool_window(case: Case) -> Window:
    assert isinstance(case.options, PoolOptions)
    o = case.options
    return Window.of(case.input(0).shape, case.output.shape, o.window, strides=o.strides, padding=o.padding)


def _emit_pool(*, average: bool) -> Callable[[Case, Names], LayerCode]:
    def emit(case: Case, names: Names) -> LayerCode:
        assert isinstance(case.options, PoolOptions)
        by_four = case.output.shape[3] % 4 == 0 and math.prod(case.options.window) < _MAX_LANE_TAPS
        kind = ("kAverageOfFour" if by_four else "kAverage") if average else "kMax"
        bounds = output_range(case.output, case.options.activation)
        call = (
            f"kernels::pool2d<kernels::Pool::{kind}>({_pool_window(case).cpp()}, {case.output.shape[3]}, "
            f"{cpp_range(bounds)}, {names.inputs[0]}, {names.output});"
        )
        return LayerCode(("kernels/pool.h",), (call,))

    return emit


def _reduced_axes(case: Case) -> list[int]:
    axes = case.input(1)
    require(axes.data is not None, "has axes that are not a constant")
    assert axes.data is not None
    rank = len(case.input(0).shape)
    return sorted({int(axis) % rank for axis in axes.data.reshape(-1)})


def _runs(case: Case) -> list[int]:
    """Sizes of kept and reduced runs of dimensions, in turn: [kept, reduced, kept, reduced, kept]."""
    axes = _reduced_axes(case)
    sizes, reducing = [1], False
    for axis, size in enumerate(case.input(0).shape):
        if size == 1:
            continue
        if (axis in axes) != reducing:
            sizes.append(1)
            reducing = not reducing
        sizes[-1] *= size
    return sizes + [1] * (5 - len(sizes))


def _check_mean(case: Case) -> None:
    _check_unary(case)
    require(len(_runs(case)) == 5, "reduces dimensions in more than two separate runs")


def _emit_sum(*, divided: bool) -> Callable[[Case, Names], LayerCode]:
    """MEAN, and SUM, which is not divided by the number of values."""

    def emit(case: Case, names: Names) -> LayerCode:
        data, output = case.input(0), case.output
        runs = _runs(case)
        count = runs[1] * runs[3]
        scale = quantize_scale(data.scale / output.scale)
        if divided:
            # The division by the count goes into the multiplier, with as many bits as fit.
            shift = min(count.bit_length() - 1, 32, 31 + scale.shift)
            scale = Scale((scale.multiplier << shift) // count, scale.shift - shift)
        call = (
            f"kernels::mean({braces(*runs)}, {-data.zero_point * count}, {cpp_scale(scale)}, "
            f"{cpp_range(output_range(output))}, {names.inputs[0]}, {names.output});"
        )
        return LayerCode(("kernels/mean.h",), (call,))

    return emit


def _check_extreme(case: Case) -> None:
    _check_mean(case)
    require(_same_steps(case), "has input and output of different quantization")


def _emit_extreme(*, greatest: bool) -> Callable[[Case, Names], LayerCode]:
    def emit(case: Case, names: Names) -> LayerCode:
        call = (
            f"kernels::reduce_extreme<{str(greatest).lower()}>({braces(*_runs(case))}, {names.inputs[0]}, "
            f"{names.output});"
        )
        return LayerCode(("kernels/extreme.h",), (call,))

    return emit


def _check_arg(case: Case) -> None:
    require_activation(case.input(0), case.output)
    require_int8(case.input(0))
    require(case.output.dtype == np.int32, f"has an output of type {case.output.dtype}, not int32")


def _emit_arg(*, greatest: bool) -> Callable[[Case, Names], LayerCode]:
    def emit(case: Case, names: Names) -> LayerCode:
        shape, axis = case.input(0).shape, _reduced_axes(case)[0]
        call = (
            f"kernels::arg_extreme<{str(greatest).lower()}>({math.prod(shape[:axis])}, {shape[axis]}, "
            f"{math.prod(shape[axis + 1 :])}, {names.inputs[0]}, {names.output});"
        )
        return LayerCode(("kernels/extreme.h",), (call,))

    return emit


def _check_softmax(case: Case) -> None:
    _check_unary(case)
    output = case.output
    require(
        np.float32(output.scale) == np.float32(1 / 256) and output.zero_point == -128,
        "has an output quantization other than scale 1/256 and zero point -128",
    )
    require(output.shape[-1] <= _MAX_SOFTMAX_DEPTH, f"has more than {_MAX_SOFTMAX_DEPTH} classes")


def _emit_softmax(case: Case, names: Names) -> LayerCode:
    assert isinstance(case.options, SoftmaxOptions)
    data = case.input(0)
    table = softmax_table(data.scale, case.options.beta)
    depth = data.shape[-1]
    call = (
        f"kernels::softmax({math.prod(data.shape) // depth}, {depth}, {names.prefix}Exponentials, "
        f"{len(table)}, {names.inputs[0]}, {names.output});"
    )
    array = Array("Exponentials", "int32_t", [str(value) for value in table], 4 * len(table))
    return LayerCode(("kernels/softmax.h",), (call,), (array,))


def _first(case: Case) -> tuple[int, ...]:  # noqa: ARG001 (one signature for all)
    return (0,)


AVERAGE_POOL_2D = Lowering(_check_pool, _emit_pool(average=True))
MAX_POOL_2D = Lowering(_check_pool, _emit_pool(average=False))
ARG_MAX = Lowering(_check_arg, _emit_arg(greatest=True))
ARG_MIN = Lowering(_check_arg, _emit_arg(greatest=False))
MEAN = Lowering(_check_mean, _emit_sum(divided=True))
REDUCE_MAX = Lowering(_check_extreme, _emit_extreme(greatest=True))
REDUCE_MIN = Lowering(_check_extreme, _emit_extreme(greatest=False))
SUM = Lowering(_check_mean, _emit_sum(divided=False))
SOFTMAX = Lowering(_check_softmax, _emit_softmax, in_place=_first)
