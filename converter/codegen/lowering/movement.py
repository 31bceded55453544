"""Operators that only move values: see converter/movement.py and firmware/kernels/copy.h."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

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
)
from converter.graph import Tensor
from converter.memory import ALIGNMENT
from converter.movement import Move, Movement, movement
from converter.shapes import ALIASES, shape_case

_STEPS = 4
_DTYPES = (np.int8, np.int32, np.float32)
_INTO_ONE = ("CONCATENATION", "PACK")


class _Step(NamedTuple):
    """A loop: how many turns, and bytes from one to the next in the source and in the target."""

    turns: int
    source: int
    target: int


class _Copy(NamedTuple):
    """Loops around runs of bytes that stay together; offsets in bytes."""

    source: int
    target: int
    steps: tuple[_Step, ...]
    run: int

    @staticmethod
    def of(move: Move, itemsize: int) -> _Copy:
        source, target = move.source_layout, move.target_layout
        loops = [*zip(source.shape, source.strides, target.strides, strict=True), (itemsize, 1, 1)]
        steps: list[_Step] = []
        for turns, stride, target_stride in loops:
            if turns == 1:
                continue
            joins = steps and steps[-1][1:] == (turns * stride, turns * target_stride)
            outer = steps.pop().turns if joins else 1
            steps.append(_Step(outer * turns, stride, target_stride))
        run = steps.pop().turns if steps and steps[-1][1:] == (1, 1) else 1
        return _Copy(source.offset, target.offset, tuple(steps), run)

    @property
    def only_moves_down(self) -> bool:
        """Whether every byte's target lies at or before its source, in one and the same memory."""
        least = sum(min(0, (step.turns - 1) * (step.source - step.target)) for step in self.steps)
        return self.source - self.target + least >= 0

    def cpp(self) -> str:
        missing = [_Step(1, 0, 0)] * (_STEPS - len(self.steps))
        return braces(braces(*(braces(*step) for step in (*missing, *self.steps))), self.run)


def _movement(case: Case) -> Movement:
    return movement(shape_case(case.graph.tensors, case.operator))


def _copies(case: Case) -> Iterator[tuple[Move, _Copy]]:
    for move in _movement(case).moves:
        yield move, _Copy.of(move, case.input(move.source).dtype.itemsize)


def _check(case: Case) -> None:
    outputs = [case.graph.tensors[i] for i in case.operator.outputs]
    require_activation(*outputs)
    for move, copy in _copies(case):
        data = case.input(move.source)
        require(data.dtype in _DTYPES, f"has tensor '{data.name}' of type {data.dtype}")
        require(not data.is_constant or data.dtype == np.int8, f"has the constant '{data.name}'")
        require(len(copy.steps) <= _STEPS, f"moves values in more than {_STEPS} nested loops")
        if case.operator.kind in _INTO_ONE and data.dtype == np.int8:
            require(same_steps(data, outputs[0]), "has inputs and an output of different quantization")


def same_steps(data: Tensor, output: Tensor) -> bool:
    """Whether two tensors have the same quantization."""
    quantized = data.quantization is not None and output.quantization is not None
    return quantized and (data.scale, data.zero_point) == (output.scale, output.zero_point)


def _storage(case: Case, tensor: int) -> int:
    """The tensor whose storage `tensor` shares."""
    producers = {o.outputs[0]: o for o in case.graph.operators if o.kind in ALIASES}
    while tensor in producers:
        tensor = producers[tensor].inputs[0]
    return tensor


def _in_place(case: Case) -> tuple[int, ...]:
    first, copy = next(_copies(case))
    if case.operator.kind in _INTO_ONE:
        storages = [_storage(case, i) for i in case.operator.inputs]
        return (0,) if storages.count(storages[0]) == 1 and not case.input(0).is_constant else ()
    if case.operator.kind in _PADS or case.input(first.source).is_constant:
        return ()
    return (first.source,) if copy.only_moves_down else ()


def _parts(case: Case) -> dict[int, int]:
    """The inputs as parts of the output, or the outputs of the input, if each is one run of bytes there."""
    joins = case.operator.kind in _INTO_ONE
    copies = list(_copies(case))
    if any(copy.steps or case.input(move.source).is_constant for move, copy in copies):
        return {}
    if joins:
        parts = {case.operator.inputs[move.source]: copy.target for move, copy in copies}
    else:
        parts = {case.operator.outputs[move.target]: copy.source for move, copy in copies}
    return parts if len(parts) == len(copies) and not any(at % ALIGNMENT for at in parts.values()) else {}


def constant_operands(case: Case, positions: tuple[int, ...]) -> tuple[Array, ...]:
    """Arrays for the inputs that are constants, under the names that the generated code uses."""
    arrays = []
    for position in positions:
        data = case.input(position).data
        if data is not None:
            arrays.append(integers(f"Input{position}", "int8_t", data))
    return tuple(arrays)


def _pointer(name: str, tensor: Tensor, offset: int, qualifier: str) -> str:
    pointer = name if tensor.dtype == np.int8 else f"reinterpret_cast<{qualifier}int8_t*>({name})"
    return f"{pointer} + {offset}" if offset else pointer


def _emit(case: Case, names: Names) -> LayerCode:
    gathers = case.operator.kind not in _INTO_ONE
    copies = list(_copies(case))
    declarations, calls = [], []
    # The first output may lie on the input, and the first input on the output: see _in_place.
    for number, (move, copy) in reversed(list(enumerate(copies))) if gathers else enumerate(copies):
        name = f"{names.prefix}Copy{number}"
        declarations.append(f"constexpr kernels::Copy {name} = {copy.cpp()};")
        source = _pointer(names.inputs[move.source], case.input(move.source), copy.source, "const ")
        output = case.graph.tensors[case.operator.outputs[move.target]]
        target = _pointer(names.outputs[move.target], output, copy.target, "")
        backward = "" if gathers or number else ", true"
        calls.append(f"kernels::copy<{name}{backward}>({source}, {target});")
    arrays = constant_operands(case, tuple(sorted({move.source for move, _ in copies})))
    return LayerCode(("kernels/copy.h",), tuple(calls), arrays, tuple(declarations))


# Operators that fill the output before they move.
_PADS = ("PAD", "PADV2")


def _check_pad(case: Case) -> None:
    _check(case)
    data, output, value = case.input(0), case.output, case.optional_input(2)
    require(output.dtype == np.int8, f"has an output of type {output.dtype}, not int8")
    require(same_steps(data, output), "has input and output of different quantization")
    if value is not None:
        require(value.data is not None and value.elements == 1, "has a padding value that is not a constant")
        require(same_steps(value, output), "has a padding value of another quantization")


def _emit_pad(case: Case, names: Names) -> LayerCode:
    constant = case.optional_input(2)
    value = case.output.zero_point if constant is None or constant.data is None else int(constant.data.item())
    code = _emit(case, names)
    fill = f"kernels::fill<{case.output.elements}>({value}, {names.output});"
    return LayerCode(code.headers, (fill, *code.statements), code.arrays, code.declarations)


MOVEMENT = Lowering(_check, _emit, in_place=_in_place, parts=_parts)
PAD = Lowering(_check_pad, _emit_pad)
