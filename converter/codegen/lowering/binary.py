"""ADD, SUB, MUL, PRELU, MAXIMUM and MINIMUM: see firmware/kernels/binary.h.

With a constant scalar they are functions of one value, and become tables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from converter.codegen.arithmetic import (
    INT8_MAX,
    INT8_MIN,
    Range,
    Scale,
    multiply,
    output_range,
    quantize_scale,
)
from converter.codegen.lowering.case import (
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
from converter.codegen.lowering.elementwise import add_same_shape, add_scales
from converter.codegen.lowering.fast_scale import clamping, fast_scale
from converter.codegen.lowering.movement import constant_operands, same_steps
from converter.codegen.lowering.tables import Function, table_code
from converter.graph import ActivationOptions, Tensor

_HEADROOM = 20
_LOOPS = 4
_LARGEST_PRODUCT = 255 * 255


class _Operation(NamedTuple):
    """cpp: the kernel's function object; value: the same in Python."""

    cpp: str
    value: Callable[[int, int], int]


def _requantized(accumulator: int, scale: Scale, bounds: Range) -> int:
    return min(max(multiply(accumulator, scale) + bounds.zero_point, bounds.low), bounds.high)


def _bounds(case: Case) -> Range:
    assert isinstance(case.options, ActivationOptions)
    return output_range(case.output, case.options.activation)


def _signed_sum(sign: int) -> Callable[[Case], _Operation]:
    """ADD and SUB; sign: of the right operand."""

    def operation(case: Case) -> _Operation:
        left, right, bounds = case.input(0), case.input(1), _bounds(case)
        twice = 2.0 * max(left.scale, right.scale)
        scales = [quantize_scale(tensor.scale / twice) for tensor in (left, right)]
        scale = quantize_scale(twice / (2**_HEADROOM * case.output.scale))
        require(scale.shift <= 0, "has an output scale too small for its input scales")
        fast = add_scales(case, bounds)
        if fast is None:
            addends = [
                braces(tensor.zero_point, cpp_scale(factor))
                for tensor, factor in zip((left, right), scales, strict=True)
            ]
            cpp = f"kernels::Sum<{sign}>{braces(*addends, cpp_scale(scale), cpp_range(bounds))}"
        else:
            exact_is_left = "true" if fast[0] == 0 else "false"
            cpp = f"kernels::FastSum<{sign}, {exact_is_left}, {clamping(bounds)}>{braces(fast[1])}"

        def value(x: int, y: int) -> int:
            a = multiply((x - left.zero_point) << _HEADROOM, scales[0])
            b = multiply((y - right.zero_point) << _HEADROOM, scales[1])
            return _requantized(a + sign * b, scale, bounds)

        return _Operation(cpp, value)

    return operation


def _product(case: Case) -> _Operation:
    left, right, bounds = case.input(0), case.input(1), _bounds(case)
    scale = quantize_scale(left.scale * right.scale / case.output.scale)
    require(scale.shift < 31 - 17, "has an output scale too small for its input scales")
    zero_points = (left.zero_point, right.zero_point)
    fast = fast_scale(scale, _LARGEST_PRODUCT, bounds.zero_point)
    if fast is None:
        cpp = f"kernels::Product{braces(*zero_points, cpp_scale(scale), cpp_range(bounds))}"
    else:
        cpp = f"kernels::FastProduct<{clamping(bounds)}>{braces(*zero_points, braces(*fast))}"

    def value(x: int, y: int) -> int:
        return _requantized((x - left.zero_point) * (y - right.zero_point), scale, bounds)

    return _Operation(cpp, value)


def _slope(case: Case) -> _Operation:
    data, slope, output = case.input(0), case.input(1), case.output
    above = quantize_scale(data.scale / output.scale)
    below = quantize_scale(data.scale * slope.scale / output.scale)
    require(max(above.shift, below.shift) < 31 - 17, "has an output scale too small for its input scales")
    bounds = Range(output.zero_point, INT8_MIN, INT8_MAX)

    def value(x: int, y: int) -> int:
        difference = x - data.zero_point
        if difference >= 0:
            return _requantized(difference, above, bounds)
        return _requantized(difference * (y - slope.zero_point), below, bounds)

    fields = (data.zero_point, slope.zero_point, cpp_scale(above), cpp_scale(below), cpp_range(bounds))
    return _Operation(f"kernels::Slope{braces(*fields)}", value)


def _extreme(name: str, value: Callable[[int, int], int]) -> Callable[[Case], _Operation]:
    def operation(case: Case) -> _Operation:
        same = all(same_steps(case.input(i), case.output) for i in (0, 1))
        require(same, "has inputs and an output of different quantization")
        return _Operation(f"kernels::{name}{{}}", value)

    return operation


def _loops(case: Case) -> list[tuple[int, int, int]]:
    """Turns and strides of both operands, in elements, of nested loops over the output."""
    shape = case.output.shape
    loops: list[tuple[int, int, int]] = []
    strides = [_strides(case.input(i), len(shape)) for i in (0, 1)]
    for turns, left, right in zip(shape, *strides, strict=True):
        if turns == 1:
            continue
        joins = loops and loops[-1][1:] == (turns * left, turns * right)
        outer = loops.pop()[0] if joins else 1
        loops.append((outer * turns, left, right))
    return loops


def _strides(tensor: Tensor, rank: int) -> list[int]:
    """Elements from one index to the next along each dimension; 0 where the tensor is broadcast."""
    shape = (1,) * (rank - len(tensor.shape)) + tensor.shape
    return [
        int(np.prod(shape[axis + 1 :], dtype=np.int64)) if size > 1 else 0 for axis, size in enumerate(shape)
    ]


def _scalar(case: Case) -> int | None:
    """Position of a constant scalar."""
    for position in (0, 1):
        if case.input(position).is_constant and case.input(position).elements == 1:
            return position
    return None


def _with_scalar(case: Case, operation: _Operation, position: int) -> Function:
    data = case.input(position).data
    assert data is not None
    scalar = int(data.item())
    if position == 0:
        return lambda q: operation.value(scalar, q)
    return lambda q: operation.value(q, scalar)


def _in_place(case: Case) -> tuple[int, ...]:
    fitting = (i for i in (0, 1) if case.input(i).shape == case.output.shape)
    return tuple(i for i in fitting if not case.input(i).is_constant)


def _lowering(
    operation: Callable[[Case], _Operation],
    same_shape: Callable[[Case, Names], LayerCode | None] = lambda *_: None,
) -> Lowering:
    """same_shape: faster code for activations of the same shape, or None."""

    def check(case: Case) -> None:
        left, right, output = case.input(0), case.input(1), case.output
        require_int8(left, right, output)
        require_activation(output)
        require(not (left.is_constant and right.is_constant), "has two constants as inputs")
        require(len(_loops(case)) <= _LOOPS, f"broadcasts in more than {_LOOPS} nested loops")
        operation(case)

    def emit(case: Case, names: Names) -> LayerCode:
        position = _scalar(case)
        if position is not None:
            function = _with_scalar(case, operation(case), position)
            return table_code(function, case.output.elements, names.inputs[1 - position], names)
        constants = constant_operands(case, (0, 1))
        if case.input(0).shape == case.input(1).shape and not constants:
            code = same_shape(case, names)
            if code is not None:
                return code
        loops = _loops(case)
        steps = [(1, 0, 0)] * (_LOOPS - len(loops)) + loops
        shape = braces(braces(*(braces(*step) for step in steps)))
        prefix = names.prefix
        declarations = (
            f"constexpr kernels::Broadcast {prefix}Shape = {shape};",
            f"constexpr auto {prefix}Operation = {operation(case).cpp};",
        )
        call = (
            f"kernels::binary<{prefix}Shape, {prefix}Operation>({', '.join(names.inputs)}, {names.output});"
        )
        return LayerCode(("kernels/binary.h",), (call,), constants, declarations)

    return Lowering(check, emit, in_place=_in_place)


ADD = _lowering(_signed_sum(1), add_same_shape)
MAXIMUM = _lowering(_extreme("Maximum", max))
MINIMUM = _lowering(_extreme("Minimum", min))
MUL = _lowering(_product)
PRELU = _lowering(_slope)
SUB = _lowering(_signed_sum(-1))
