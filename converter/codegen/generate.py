"""Writes the C++ of a model: model.cc, model.h and the layer table model.json."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from common import files
from converter.codegen.dead_channels import without_dead_channels
from converter.codegen.lowering.case import Array, Case, LayerCode, Names
from converter.codegen.support import LOWERINGS, check_support
from converter.costs import operator_macs
from converter.graph import Graph, Operator, Tensor
from converter.memory import MemoryPlan

_CPP_TYPES = {np.dtype(np.int8): "int8_t", np.dtype(np.int32): "int32_t", np.dtype(np.float32): "float"}


@dataclass(frozen=True)
class GeneratedLayer:
    """A layer of the generated code.

    op: kind of operator, e.g. "CONV_2D"; function: symbol of the layer's function; weights_bytes: constants
    of the layer in flash; arena_bytes: activations and scratch that live while it runs.
    """

    index: int
    name: str
    op: str
    function: str
    macs: int
    weights_bytes: int
    arena_bytes: int


@dataclass(frozen=True)
class GeneratedModel:
    """The files that `generate` wrote, and the layer table that model.json holds."""

    source: Path
    header: Path
    table: Path
    arena_bytes: int
    layers: tuple[GeneratedLayer, ...]


@dataclass(frozen=True)
class _Layer:
    """What the template needs of a layer."""

    kind: str
    name: str
    function: str
    prefix: str
    headers: tuple[str, ...]
    statements: tuple[str, ...]
    arrays: tuple[Array, ...]
    declarations: tuple[str, ...]


def generate(graph: Graph, plan: MemoryPlan, folder: Path) -> GeneratedModel:
    """Write model.cc, model.h and model.json of `graph`, with its memory as planned, into `folder`.

    Raises:
        ModelError: the graph holds something that the engine does not support; nothing is written.
    """
    check_support(graph)
    reduced = without_dead_channels(graph)
    layers = [_layer(reduced, operator, plan) for operator in reduced.operators]
    values = {
        "name": graph.name,
        "sha256": graph.sha256,
        "headers": sorted({header for layer in layers for header in layer.headers}),
        "layers": layers,
        "order": () if list(plan.order) == sorted(plan.order) else plan.order,
        "arena_bytes": plan.arena_bytes,
        "inputs": [_placed(graph.tensors[i], plan) for i in graph.inputs],
        "outputs": [_placed(graph.tensors[i], plan) for i in graph.outputs],
        "description": [_cpp_string(line + "\n") for line in _description(graph, plan)],
    }
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("converter.codegen"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["cpp_list"] = _cpp_list
    table = tuple(_table_row(graph, plan, o, layer) for o, layer in zip(graph.operators, layers, strict=True))
    model = GeneratedModel(
        folder / "model.cc", folder / "model.h", folder / "model.json", plan.arena_bytes, table
    )
    source = environment.get_template("model.cc.j2").render(values)
    header = environment.get_template("model.h.j2").render(values)
    files.write_text(model.header, header)
    files.write_text(model.source, source)
    summary = {
        "schema": 1,
        "model": graph.name,
        "model_sha256": graph.sha256,
        "arena_bytes": plan.arena_bytes,
        "layers": [asdict(row) for row in table],
    }
    files.write_json(model.table, summary)
    return model


def constant_bytes(graph: Graph, plan: MemoryPlan) -> int:
    """Bytes of flash for the constants of the code that `generate` would write for a supported graph."""
    reduced = without_dead_channels(graph)
    layers = (_layer(reduced, operator, plan) for operator in reduced.operators)
    return sum(array.nbytes for layer in layers for array in layer.arrays)


def _layer(graph: Graph, operator: Operator, plan: MemoryPlan) -> _Layer:
    prefix = f"kLayer{operator.index}"
    names = Names(
        prefix,
        tuple(_pointer(graph, i, plan, f"{prefix}Input{n}", "const ") for n, i in enumerate(operator.inputs)),
        tuple(_pointer(graph, i, plan, "") for i in operator.outputs),
        f"at<int8_t>({plan.scratch_offsets[operator.index]})"
        if operator.index in plan.scratch_offsets
        else "nullptr",
    )
    if operator.index in plan.needs.parts:
        code = LayerCode((), ())
    else:
        code = LOWERINGS[operator.kind].emit(Case(graph, operator), names)
    function = f"layer_{operator.index}_{operator.kind.lower()}"
    return _Layer(
        operator.kind,
        operator.name,
        function,
        prefix,
        code.headers,
        code.statements,
        code.arrays,
        code.declarations,
    )


def _pointer(graph: Graph, tensor: int, plan: MemoryPlan, constant: str, qualifier: str = "") -> str:
    if tensor not in plan.tensor_offsets:
        return constant
    return f"at<{qualifier}{_CPP_TYPES[graph.tensors[tensor].dtype]}>({plan.tensor_offsets[tensor]})"


def _placed(tensor: Tensor, plan: MemoryPlan) -> dict[str, int]:
    return {"offset": plan.tensor_offsets[tensor.index], "nbytes": tensor.nbytes}


def _table_row(graph: Graph, plan: MemoryPlan, operator: Operator, layer: _Layer) -> GeneratedLayer:
    return GeneratedLayer(
        operator.index,
        operator.name,
        operator.kind,
        layer.function,
        operator_macs(graph, operator),
        sum(array.nbytes for array in layer.arrays),
        plan.live_bytes[operator.index],
    )


def _description(graph: Graph, plan: MemoryPlan) -> list[str]:
    lines = [
        "engine=aot",
        f"model={graph.name}",
        f"model_sha256={graph.sha256}",
        f"arena_bytes={plan.arena_bytes}",
        f"layers={len(graph.operators)}",
        f"ops={','.join(sorted({operator.kind for operator in graph.operators}))}",
    ]
    for what, indices in (("input", graph.inputs), ("output", graph.outputs)):
        lines += [f"{what}{n}={_tensor_text(graph.tensors[i])}" for n, i in enumerate(indices)]
    return lines


def _tensor_text(tensor: Tensor) -> str:
    shape = "x".join(str(size) for size in tensor.shape)
    steps = f"{tensor.scale:.9g}:{tensor.zero_point}" if tensor.quantization else "1:0"
    return f"{tensor.dtype.name}:{shape}:{steps}"


def _cpp_string(text: str) -> str:
    # JSON's escapes of printable text are C++'s too, once "?" cannot start a trigraph.
    return json.dumps(text).replace("?", "\\?")


def _cpp_list(values: Sequence[Any]) -> str:
    return textwrap.fill(
        ", ".join(str(v) for v in values), 100, initial_indent="    ", subsequent_indent="    "
    )
