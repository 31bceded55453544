"""What a shape rule sees of an operator, and how it says that something is wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from converter.graph import Options, Tensor

Shape = tuple[int, ...]


class MismatchError(Exception):
    """What is wrong with an operator; the caller adds which one."""


@dataclass(frozen=True)
class ShapeCase:
    """An operator with its inputs, absent optional ones being None, and its outputs as declared."""

    kind: str
    options: Options
    given: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]

    def input(self, position: int) -> Tensor:
        """A required input."""
        tensor = self.optional_input(position)
        if tensor is None:
            raise MismatchError("lacks a required input")
        return tensor

    def optional_input(self, position: int) -> Tensor | None:
        """An input that may be absent."""
        return self.given[position] if position < len(self.given) else None

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """All inputs of an operator without optional ones."""
        return tuple(self.input(i) for i in range(len(self.given)))

    @property
    def output(self) -> Tensor:
        """The only output."""
        return self.outputs[0]


def integers(tensor: Tensor, what: str) -> npt.NDArray[np.int64]:
    """The values of a small integer constant."""
    if tensor.data is None or tensor.dtype.kind != "i" or tensor.elements > 64:
        raise MismatchError(f"has {what} that are not a few integer constants")
    return tensor.data.astype(np.int64)


def integer_list(tensor: Tensor, what: str) -> list[int]:
    """The values of a small integer constant, flattened."""
    return [int(value) for value in integers(tensor, what).reshape(-1)]


def axis_of(axis: int, rank: int) -> int:
    """An axis that may count from the last one, as a position."""
    if not -rank <= axis < rank:
        raise MismatchError(f"has axis {axis} on {rank} dimensions")
    return axis % rank


def of_rank(tensor: Tensor, rank: int) -> Shape:
    """The shape of a tensor that must have `rank` dimensions."""
    if len(tensor.shape) != rank:
        raise MismatchError(f"has tensor '{tensor.name}' of rank {len(tensor.shape)} instead of {rank}")
    return tensor.shape
