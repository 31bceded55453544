"""The verdict: does a graph with its memory plan fit the board's RAM and flash, and what would make it fit.

It comes before any build, so what only the linker knows is estimated, generously; the image's own figures
stand in the report later.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from common.errors import OverBudgetError
from converter.board import Board
from converter.costs import operator_macs, weights_bytes
from converter.graph import Graph
from converter.memory import MemoryPlan, plan_memory
from converter.resize import largest_input

# Estimates in bytes of what the image needs beside arena, stack and constants. MobileNets and the models of
# MLPerf Tiny have 400 bytes of .data and .bss, 6 KB of harness, and up to 0.9 KB of kernels an operator.
DATA_BSS_BYTES = 1024
CODE_BYTES = 8 * 1024
CODE_BYTES_PER_OPERATOR = 1280


@dataclass(frozen=True)
class Layer:
    """One row of the per-layer table.

    weights_bytes: all constants that the layer is the first to use; live_bytes: RAM of the arena that holds
    values while it runs.
    """

    index: int
    op: str
    name: str
    macs: int
    weights_bytes: int
    live_bytes: int


@dataclass(frozen=True)
class NamedBytes:
    """A tensor, known by the layer that writes it, and its size."""

    name: str
    nbytes: int


@dataclass(frozen=True)
class Ram:
    """Bytes of RAM; data_bss is an estimate, stack the board's reserve."""

    total: int
    budget: int
    arena: int
    data_bss: int
    stack: int


@dataclass(frozen=True)
class Flash:
    """Bytes of flash; code is an estimate, with what generated constants need above the file's weights."""

    total: int
    budget: int
    weights: int
    code: int


@dataclass(frozen=True)
class Verdict:
    """Whether a model fits a board, and what it costs. `dataclasses.asdict` gives what JSON can hold.

    peak: index into layers of the layer that makes the peak; peak_tensors: what lives there, largest first;
    problem: one line that says what does not fit, where and what would help, None where all fits.
    """

    fits: bool
    model: str
    board: str
    macs: int
    ram: Ram
    flash: Flash
    peak: int
    peak_tensors: tuple[NamedBytes, ...]
    layers: tuple[Layer, ...]
    problem: str | None

    def require(self) -> None:
        """Do nothing if the model fits.

        Raises:
            OverBudgetError: it does not.
        """
        if self.problem is not None:
            raise OverBudgetError(self.problem)


def check_budget(
    graph: Graph,
    plan: MemoryPlan,
    board: Board,
    *,
    ram_bytes: int | None = None,
    flash_bytes: int | None = None,
    constants: int = 0,
) -> Verdict:
    """Hold `graph` with its memory plan against RAM and flash of `board`, or against smaller budgets.

    constants: bytes of constants in the generated code, which holds scales and rearranged weights.
    """
    weights = weights_bytes(graph)
    layers = tuple(
        Layer(
            operator.index,
            operator.kind,
            operator.name,
            operator_macs(graph, operator),
            weights[operator.index],
            plan.live_bytes[operator.index],
        )
        for operator in graph.operators
    )
    ram = _ram(plan.arena_bytes, board, ram_bytes or board.ram_bytes)
    code = CODE_BYTES + CODE_BYTES_PER_OPERATOR * len(layers) + max(0, constants - sum(weights))
    flash = Flash(sum(weights) + code, flash_bytes or board.flash.size, sum(weights), code)
    problems = []
    if ram.total > ram.budget:
        problems.append(_ram_problem(graph, plan, ram))
    if flash.total > flash.budget:
        problems.append(_flash_problem(layers, flash))
    return Verdict(
        fits=not problems,
        model=graph.name,
        board=board.name,
        macs=sum(layer.macs for layer in layers),
        ram=ram,
        flash=flash,
        peak=plan.peak_operator,
        peak_tensors=tuple(NamedBytes(piece.name, piece.nbytes) for piece in plan.peak),
        layers=layers,
        problem=f"{graph.name} does not fit {board.title}: {'; '.join(problems)}" if problems else None,
    )


def _ram(arena: int, board: Board, budget: int) -> Ram:
    total = arena + DATA_BSS_BYTES + board.stack.reserve
    return Ram(total, budget, arena, DATA_BSS_BYTES, board.stack.reserve)


def _ram_problem(graph: Graph, plan: MemoryPlan, ram: Ram) -> str:
    operator = graph.operators[plan.peak_operator]
    tensors = ", ".join(f"{piece.name} {piece.nbytes:,}" for piece in plan.peak[:4])
    allowed = ram.budget - ram.data_bss - ram.stack
    # Parts begin elsewhere in a smaller tensor; without them a plan is valid, if perhaps larger.
    needs = replace(plan.needs, parts={})

    def fits(smaller: Graph) -> bool:
        return plan_memory(smaller, needs, plan.alignment).arena_bytes <= allowed

    size = largest_input(graph, fits)
    if size is not None:
        _, height, width, _ = graph.tensors[graph.inputs[0]].shape
        remedy = f"an input of {size[0]}x{size[1]} instead of {height}x{width} would fit"
    else:
        remedy = f"reduce the input, the width or the early strides until the arena is at most {allowed:,}"
    return (
        f"RAM {ram.total:,} of {ram.budget:,} bytes, {ram.total - ram.budget:,} too many "
        f"(arena {ram.arena:,}, data {ram.data_bss:,}, stack {ram.stack:,}); peak at {operator.kind} "
        f"'{operator.name}' (layer {operator.index}): {tensors}; {remedy}"
    )


def _flash_problem(layers: tuple[Layer, ...], flash: Flash) -> str:
    largest = max(layers, key=lambda layer: layer.weights_bytes)
    allowed = flash.budget - flash.code
    if 0 < allowed < flash.weights:
        factor = math.floor(100 * math.sqrt(allowed / flash.weights)) / 100
        remedy = f"reduce the weights to {allowed:,} bytes, which takes about {factor:.2f} of the width"
    else:
        remedy = f"reduce the number of layers ({len(layers)})"
    return (
        f"flash {flash.total:,} of {flash.budget:,} bytes, {flash.total - flash.budget:,} too many "
        f"(weights {flash.weights:,}, code about {flash.code:,}); most weights in {largest.op} "
        f"'{largest.name}' (layer {largest.index}): {largest.weights_bytes:,}; {remedy}"
    )
