"""Random graphs, and what a random engine needs for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from converter.graph import Graph, Operator, Tensor
from converter.memory import EngineNeeds

INT8 = np.dtype(np.int8)
KINDS = ("plain", "scratch", "in_place", "alias")
PARTS = ("join", "view")


@st.composite
def graphs_and_needs(
    draw: st.DrawFn, max_operators: int = 9, kinds: Sequence[str] = KINDS
) -> tuple[Graph, EngineNeeds]:
    """A graph of some operators: some alias an input, some may overwrite one, some need scratch.

    Of the kinds `PARTS`, some join their inputs and some take a part of one.
    """
    sizes = draw(st.lists(st.integers(1, 40), min_size=1, max_size=2))
    inputs = tuple(range(len(sizes)))
    operators: list[Operator] = []
    scratch: dict[int, int] = {}
    in_place: dict[int, tuple[int, ...]] = {}
    aliases: dict[int, int] = {}
    parts: dict[int, dict[int, int]] = {}
    for index in range(draw(st.integers(1, max_operators))):
        reads = draw(st.lists(st.integers(0, len(sizes) - 1), min_size=1, max_size=3))
        kind = draw(st.sampled_from(kinds))
        size = draw(st.integers(1, 40))
        if kind == "scratch":
            scratch[index] = draw(st.integers(0, 40))
        if kind == "alias":
            size = sizes[reads[0]]
            aliases[index] = reads[0]
        if kind == "in_place":
            in_place[index] = tuple(dict.fromkeys(reads[: draw(st.integers(1, 2))]))
        if kind == "join":
            reads = list(dict.fromkeys(reads))
            starts = [sum(-(-sizes[t] // 4) * 4 for t in reads[:i]) for i in range(len(reads))]
            parts[index] = dict(zip(reads, starts, strict=True))
            size = starts[-1] + sizes[reads[-1]]
        if kind == "view":
            size = draw(st.integers(1, sizes[reads[0]]))
            parts[index] = {len(sizes): 4 * draw(st.integers(0, (sizes[reads[0]] - size) // 4))}
        operators.append(Operator(index, "OP", f"op{index}", tuple(reads), (len(sizes),)))
        sizes.append(size)
    last = operators[-1].outputs[0]
    outputs = (last, *draw(st.lists(st.integers(len(inputs), last), max_size=1)))
    tensors = tuple(Tensor(i, f"t{i}", (size,), INT8) for i, size in enumerate(sizes))
    graph = Graph("random", "", tensors, tuple(operators), inputs, tuple(dict.fromkeys(outputs)))
    return graph, EngineNeeds(scratch, in_place, aliases, parts)
