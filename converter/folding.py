"""Computes ahead what no input can change: the shape arithmetic that Keras leaves in front of RESHAPE."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from converter.graph import Graph, Operator, Tensor
from converter.movement import MOVEMENTS, movement
from converter.shape_case import ShapeCase
from converter.shapes import ALIASES, shape_case


def without_constant_operators(graph: Graph) -> Graph:
    """The graph with constants for what SHAPE, and operators that move only constants, would write.

    Indices of tensors stay the same, operators are numbered anew. Outputs of the graph are not folded.
    """
    tensors = list(graph.tensors)
    kept: list[Operator] = []
    for operator in graph.operators:
        case = shape_case(tensors, operator)
        values = None if set(operator.outputs) & set(graph.outputs) else _values(case)
        if values is None:
            kept.append(replace(operator, index=len(kept)))
            continue
        for index, value in zip(operator.outputs, values, strict=True):
            tensors[index] = _constant(tensors[index], value)
    return replace(graph, tensors=tuple(tensors), operators=tuple(kept))


def _constant(tensor: Tensor, value: npt.NDArray[Any]) -> Tensor:
    data = value.reshape(tensor.shape)
    data.flags.writeable = False
    return replace(tensor, data=data)


def _values(case: ShapeCase) -> list[npt.NDArray[Any]] | None:
    """What the outputs always are, or None where the inputs decide."""
    if case.kind == "SHAPE":
        return [np.array(case.input(0).shape, dtype=case.output.dtype)]
    if not case.given or any(tensor is None or tensor.data is None for tensor in case.given):
        return None
    if case.kind in ALIASES:
        assert case.inputs[0].data is not None
        return [case.inputs[0].data.copy()]
    return _moved(case) if case.kind in MOVEMENTS else None


def _moved(case: ShapeCase) -> list[npt.NDArray[Any]] | None:
    if case.kind in ("PAD", "PADV2"):
        return None
    view = np.lib.stride_tricks.as_strided
    values = [np.empty(tensor.shape, tensor.dtype) for tensor in case.outputs]
    for move in movement(case).moves:
        data = case.input(move.source).data
        assert data is not None
        source = data.reshape(-1)[move.source_layout.offset // data.itemsize :]
        target = values[move.target].reshape(-1)[move.target_layout.offset // data.itemsize :]
        to = view(target, move.target_layout.shape, move.target_layout.strides)
        to[...] = view(source, move.source_layout.shape, move.source_layout.strides)
    return values
