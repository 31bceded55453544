"""What the lowering of an operator sees and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from converter.codegen.arithmetic import Range, Scale, quantization
from converter.graph import Graph, Operator, Options, Tensor


class UnsupportedError(Exception):
    """Why an operator cannot be lowered; the caller adds which one."""


@dataclass(frozen=True)
class Case:
    """An operator with its tensors."""

    graph: Graph
    operator: Operator

    @property
    def options(self) -> Options:
        """The operator's options."""
        return self.operator.options

    @property
    def inputs(self) -> tuple[Tensor | None, ...]:
        """Input tensors; absent optional ones are None."""
        return tuple(self.graph.tensors[i] if i >= 0 else None for i in self.operator.inputs)

    @property
    def output(self) -> Tensor:
        """The first output tensor."""
        return self.graph.tensors[self.operator.outputs[0]]

    def input(self, position: int) -> Tensor:
        """A required input tensor."""
        tensor = self.inputs[position] if position < len(self.inputs) else None
        if tensor is None:
            raise UnsupportedError(f"lacks its input {position}")
        return tensor

    def optional_input(self, position: int) -> Tensor | None:
        """An input tensor that may be absent."""
        return self.inputs[position] if position < len(self.inputs) else None


@dataclass(frozen=True)
class Array:
    """A constant array of the generated code.

    suffix: appended to the layer's prefix to name it; element: C++ type; values: C++ initialisers, one an
    element; nbytes: its size.
    """

    suffix: str
    element: str
    values: Sequence[str]
    nbytes: int


@dataclass(frozen=True)
class Names:
    """C++ expressions that a layer's code may use.

    prefix: of the layer's constants; inputs, outputs: typed pointers; scratch: `int8_t*` to scratch memory.
    """

    prefix: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    scratch: str = "nullptr"

    @property
    def output(self) -> str:
        """The first output."""
        return self.outputs[0]


@dataclass(frozen=True)
class LayerCode:
    """Generated code of a layer: kernel headers, statements of its function, constants, declarations."""

    headers: tuple[str, ...]
    statements: tuple[str, ...]
    arrays: tuple[Array, ...] = ()
    declarations: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lowering:
    """How one kind of operator becomes C++.

    check: raises UnsupportedError; emit: gives the code, or None where the output aliases the input;
    scratch: bytes; in_place: positions of inputs whose memory the output may take over from the same start;
    parts: tensors that may lie in another one, so that no code is needed, and the bytes at which they begin.
    """

    check: Callable[[Case], None]
    emit: Callable[[Case, Names], LayerCode]
    scratch: Callable[[Case], int] = lambda _: 0
    in_place: Callable[[Case], tuple[int, ...]] = lambda _: ()
    parts: Callable[[Case], dict[int, int]] = lambda _: {}
    alias: bool = False


def require(condition: bool, reason: str) -> None:
    """Raise UnsupportedError with `reason` unless `condition`."""
    if not condition:
        raise UnsupportedError(reason)


def require_int8(*tensors: Tensor) -> None:
    """Require int8 tensors quantized per tensor."""
    for tensor in tensors:
        require(tensor.dtype == np.int8, f"has tensor '{tensor.name}' of type {tensor.dtype}, not int8")
        require(tensor.quantization is not None, f"has tensor '{tensor.name}' without quantization")
        assert tensor.quantization is not None
        require(len(tensor.quantization.scale) == 1, f"has tensor '{tensor.name}' quantized per channel")


def require_weights(weights: Tensor, bias: Tensor | None, axis: int) -> None:
    """Require constant, symmetric int8 weights, scaled per tensor or along `axis`, and a constant bias."""
    require(weights.data is not None, f"has weights '{weights.name}' that are not a constant")
    require(weights.dtype == np.int8, f"has weights of type {weights.dtype}, not int8")
    require(weights.quantization is not None, "has weights without quantization")
    steps = quantization(weights)
    require(not steps.zero_point.any(), "has weights with a zero point other than 0")
    one_axis = len(steps.scale) == 1 or steps.axis == axis
    require(one_axis, f"has weights quantized along axis {steps.axis}, not {axis}")
    if bias is not None:
        require(bias.data is not None, f"has a bias '{bias.name}' that is not a constant")
        require(bias.dtype == np.int32, f"has a bias of type {bias.dtype}, not int32")


def require_activation(*tensors: Tensor) -> None:
    """Require tensors that are computed, not constants of the file."""
    for tensor in tensors:
        require(not tensor.is_constant, f"has the constant '{tensor.name}' where an activation is expected")


def braces(*values: object) -> str:
    """A C++ brace initialiser."""
    return "{" + ", ".join(str(value) for value in values) + "}"


def cpp_scale(scale: Scale) -> str:
    """A `kernels::Scale` initialiser."""
    return braces(scale.multiplier, scale.shift)


def cpp_range(value: Range) -> str:
    """A `kernels::Output` initialiser."""
    return braces(value.zero_point, value.low, value.high)


def integers(suffix: str, element: str, values: npt.NDArray[Any]) -> Array:
    """A constant array of numbers."""
    return Array(suffix, element, [str(int(v)) for v in values.reshape(-1)], values.size * values.itemsize)
