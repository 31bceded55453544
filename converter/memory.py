"""The memory plan: when each activation lives, where it lies in the arena, and which layer makes the peak."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from converter.graph import Graph
from converter.order import EFFORT, EffortError, Ordering, best_order, orders_below, peak_of
from converter.placement import Span, place
from converter.storage import EngineNeeds, Work, whole_of

__all__ = ["ALIGNMENT", "Allocation", "EngineNeeds", "MemoryPlan", "check_plan", "plan_memory"]

# What the engine promises for tensors, and what 64-bit loads want.
ALIGNMENT = 8

# Blocks that the layouts of a plan may try together: under 2 s for irregular graphs of up to 200 operators.
LAYOUT_EFFORT = 50_000


@dataclass(frozen=True)
class Allocation:
    """A piece of the arena: of a tensor, or, where `tensor` is None, scratch of the operator at `first`.

    name: of the layer that writes it, or of the graph's input; offset, nbytes: in the arena; first, last:
    positions in the order of execution between which it holds a value (both included).
    """

    name: str
    tensor: int | None
    offset: int
    nbytes: int
    first: int
    last: int


@dataclass(frozen=True)
class MemoryPlan:
    """In which order the operators run and where everything lies in the arena. All sizes in bytes.

    order: operators as they are executed; live_bytes: per operator, what it and those after it need at that
    moment, storage that tensors share counted once; peak_operator: the first to run of those with the most;
    peak: what lives there, largest first; lower_bound: no plan with these scratch buffers and shared storages
    can be smaller, whatever its order; needs: what the plan was made for, with those parts only that it lays
    into their whole.
    """

    arena_bytes: int
    lower_bound: int
    alignment: int
    order: tuple[int, ...]
    allocations: tuple[Allocation, ...]
    live_bytes: tuple[int, ...]
    peak_operator: int
    peak: tuple[Allocation, ...]
    needs: EngineNeeds

    @property
    def gap_bytes(self) -> int:
        """Bytes above the proven lower bound: 0 where the plan is proven optimal."""
        return self.arena_bytes - self.lower_bound

    @property
    def tensor_offsets(self) -> dict[int, int]:
        """Tensor -> offset in the arena."""
        return {a.tensor: a.offset for a in self.allocations if a.tensor is not None}

    @property
    def scratch_offsets(self) -> dict[int, int]:
        """Operator -> offset of its scratch memory in the arena."""
        return {self.order[a.first]: a.offset for a in self.allocations if a.tensor is None}


def plan_memory(
    graph: Graph,
    needs: EngineNeeds | None = None,
    alignment: int = ALIGNMENT,
    effort: int = LAYOUT_EFFORT,
) -> MemoryPlan:
    """Order the operators of `graph` and give every activation and scratch buffer a place in one arena.

    The graph's inputs live from the first operator on, its outputs until after the last one. The order is the
    file's own unless another one needs less memory. `effort` is how many blocks may be tried to find places
    for them: with more of it the gap to the lower bound may shrink.

    Raises:
        ValueError: `needs` names operators or tensors that do not fit together.
    """
    needs = needs or EngineNeeds()
    work, best = _with_best_parts(graph, needs, alignment)
    bound = best.lower_bound
    layout = _layout(work, best.order, next(_sharings(work, best.order)), effort // 2)
    if layout.height > bound:
        layout, bound = _improved(work, layout, bound, effort - layout.effort)
    plan = _plan(graph, layout, bound, work)
    if work.needs.parts and plan.arena_bytes > best.lower_bound:
        apart = plan_memory(graph, replace(needs, parts={}), alignment, effort)
        return min(plan, apart, key=lambda found: found.arena_bytes)
    return plan


def check_plan(graph: Graph, plan: MemoryPlan) -> list[str]:
    """Check a plan without trusting how it was made; returns what is wrong with it, nothing if it holds.

    Checked: every operator runs once, after those whose outputs it reads; every activation and scratch buffer
    has its bytes inside the arena, aligned; aliases and parts lie where they must; no two others overlap
    while both hold a value, except an operator's output on the input that it may overwrite there for the last
    time.
    """
    needs = plan.needs
    problems = _order_problems(graph, plan.order)
    if problems:
        return problems
    lives = _lifetimes(graph, plan.order)
    position = {operator: i for i, operator in enumerate(plan.order)}
    offsets, scratch = plan.tensor_offsets, plan.scratch_offsets
    wanted = {operator: nbytes for operator, nbytes in needs.scratch.items() if nbytes > 0}
    problems += [f"tensor {t} has no place" for t in lives if t not in offsets]
    problems += [f"operator {operator} has no scratch" for operator in wanted if operator not in scratch]
    if problems:
        return problems
    roots = _roots(graph, needs)
    pieces = [(offsets[t], graph.tensors[t].nbytes, *life, roots[t][0]) for t, life in lives.items()]
    pieces += [(scratch[o], nbytes, position[o], position[o], -1 - o) for o, nbytes in wanted.items()]
    for offset, nbytes, *_ in pieces:
        if offset < 0 or offset + nbytes > plan.arena_bytes or offset % plan.alignment:
            problems.append(f"{nbytes} bytes at {offset} are not aligned inside the arena")
    for tensor, (root, shift) in roots.items():
        if offsets[tensor] != offsets[root] + shift:
            problems.append(f"tensor {tensor} does not lie {shift} bytes into tensor {root}")
    takeovers = {
        (position[operator], roots[source][0], roots[target][0])
        for operator, sources in needs.in_place.items()
        for source in sources
        for target in graph.operators[operator].outputs[:1]
    }
    for i, (offset, nbytes, first, last, root) in enumerate(pieces):
        for other_offset, other_nbytes, other_first, other_last, other in pieces[:i]:
            begin, end = max(first, other_first), min(last, other_last)
            apart = offset + nbytes <= other_offset or other_offset + other_nbytes <= offset
            if begin > end or apart or root == other:
                continue
            taken = {(begin, root, other), (begin, other, root)} & takeovers
            if begin < end or offset != other_offset or not taken:
                problems.append(f"tensors {root} and {other} overlap at operator {plan.order[begin]}")
    return problems


@dataclass(frozen=True)
class _Layout:
    """Bases of the storages and of the scratch buffers (by operator) for an order of execution.

    effort: blocks tried to find it.
    """

    order: tuple[int, ...]
    bases: tuple[int, ...]
    scratch: Mapping[int, int]
    height: int
    lower_bound: int
    effort: int


def _with_best_parts(graph: Graph, needs: EngineNeeds, alignment: int) -> tuple[Work, Ordering]:
    """The work and its best order, with those parts laid into their whole that do not raise the peak.

    Parts save a copy, but hold the place of the whole from the first of them to the last. So each operator's
    are left out if that lowers the peak.
    """
    effort = EFFORT // (len(needs.parts) + 1)

    def ordered(operators: Iterable[int]) -> tuple[Work, Ordering]:
        work = Work(graph, replace(needs, parts=_compatible(graph, needs, operators)), alignment)
        return work, best_order(work, effort)

    laid = list(needs.parts)
    best = ordered(laid)
    for operator in needs.parts:
        fewer = [other for other in laid if other != operator]
        without = ordered(fewer)
        if without[1].peak < best[1].peak:
            best, laid = without, fewer
    return min(best, ordered(()), key=lambda found: found[1].peak) if laid else best


def _compatible(graph: Graph, needs: EngineNeeds, operators: Iterable[int]) -> dict[int, Mapping[int, int]]:
    """The parts of those operators, without those whose tensors lie in another one already."""
    placed = {graph.operators[operator].outputs[0] for operator in needs.aliases}
    found = {}
    for operator in operators:
        if not placed & set(needs.parts[operator]):
            found[operator] = needs.parts[operator]
            placed |= set(needs.parts[operator])
    return found


def _improved(work: Work, layout: _Layout, bound: int, effort: int) -> tuple[_Layout, int]:
    """The best of some more layouts, those of the best and of the file's order first, and a lower bound."""
    least, own = layout.lower_bound, tuple(range(len(work.steps)))
    others = orders_below(work, lambda: layout.height)
    orders = itertools.chain([own] if peak_of(work, own) < layout.height else [], others)
    ways = ((order, block_of) for order in orders for block_of in _sharings(work, order))
    more = ((layout.order, block_of) for block_of in itertools.islice(_sharings(work, layout.order), 1, None))
    try:
        for order, block_of in itertools.chain(more, ways):
            other = _layout(work, order, block_of, effort, layout.height)
            effort -= other.effort
            least = min(least, other.lower_bound)
            layout = min(layout, other, key=lambda candidate: candidate.height)
            if layout.height == bound or effort <= 0:
                return layout, bound
        bound = max(bound, min(layout.height, least))
    except EffortError:
        pass
    return layout, bound


def _layout(
    work: Work, order: tuple[int, ...], block_of: Sequence[int], effort: int, below: int | None = None
) -> _Layout:
    lives = work.lives(order)
    members: dict[int, list[int]] = defaultdict(list)
    for storage, block in enumerate(block_of):
        members[block].append(storage)
    blocks = [
        [Span(*lives[storage], work.storages[storage].nbytes) for storage in together]
        for together in members.values()
    ]
    scratch = [(i, work.steps[operator].scratch) for i, operator in enumerate(order)]
    scratch = [(i, nbytes) for i, nbytes in scratch if nbytes > 0]
    blocks += [[Span(i, i, nbytes)] for i, nbytes in scratch]
    placement = place(blocks, effort, below)
    base_of = dict(zip(members, placement.bases, strict=False))
    bases = tuple(base_of[block] for block in block_of)
    scratch_bases = placement.bases[len(members) :]
    return _Layout(
        order,
        bases,
        {order[i]: base for (i, _), base in zip(scratch, scratch_bases, strict=True)},
        placement.height,
        placement.lower_bound,
        placement.effort,
    )


def _sharings(work: Work, order: Sequence[int]) -> Iterator[list[int]]:
    """Storage -> the first of those that have one base, as each takes over the place of the one before it.

    The first way takes over all it can, which at no moment needs more memory than the others.
    """
    options: list[list[tuple[int, int] | None]] = []
    done = 0
    for operator in order:
        options.append([*work.takeovers(done, operator), None])
        done |= 1 << operator
    for chosen in itertools.product(*options):
        block_of = list(range(len(work.storages)))
        for source, target in filter(None, chosen):
            block_of[target] = block_of[source]
        yield block_of


def _plan(graph: Graph, layout: _Layout, bound: int, work: Work) -> MemoryPlan:
    names = _names(graph)
    end = len(graph.operators) - 1
    position = {operator: i for i, operator in enumerate(layout.order)}
    allocations = []
    for tensor, (first, last) in _lifetimes(graph, layout.order).items():
        storage, shift = work.place_of[tensor]
        offset = layout.bases[storage] + shift
        nbytes = graph.tensors[tensor].nbytes
        allocations.append(Allocation(names[tensor], tensor, offset, nbytes, first, min(last, end)))
    for operator, offset in layout.scratch.items():
        name, at = f"scratch of {graph.operators[operator].name}", position[operator]
        allocations.append(Allocation(name, None, offset, work.needs.scratch[operator], at, at))
    live = {operator: _live_at(allocations, position[operator]) for operator in layout.order}
    live_bytes = {operator: sum(piece.nbytes for piece in pieces) for operator, pieces in live.items()}
    peak_operator = max(layout.order, key=live_bytes.__getitem__)
    return MemoryPlan(
        layout.height,
        bound,
        work.alignment,
        layout.order,
        tuple(allocations),
        tuple(live_bytes[operator.index] for operator in graph.operators),
        peak_operator,
        tuple(sorted(live[peak_operator], key=lambda piece: -piece.nbytes)),
        work.needs,
    )


def _live_at(allocations: Iterable[Allocation], position: int) -> list[Allocation]:
    """What lives at a position in the order; of pieces that share storage, the one around the others."""
    live = [piece for piece in allocations if piece.first <= position <= piece.last]
    outer: list[Allocation] = []
    for piece in sorted(live, key=lambda piece: (piece.offset, -piece.nbytes)):
        if not outer or piece.offset >= outer[-1].offset + outer[-1].nbytes:
            outer.append(piece)
    return outer


def _names(graph: Graph) -> dict[int, str]:
    """Activation -> what users know it as."""
    names = {tensor: graph.tensors[tensor].name for tensor in graph.inputs}
    for operator in graph.operators:
        for position, tensor in enumerate(operator.outputs):
            names[tensor] = operator.name if position == 0 else f"{operator.name}:{position}"
    return names


def _lifetimes(graph: Graph, order: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Activation -> first and last position at which it holds a value; outputs outlive the last operator."""
    lives = dict.fromkeys(graph.inputs, (0, 0))
    for position, index in enumerate(order):
        for tensor in graph.operators[index].inputs:
            if tensor in lives:
                lives[tensor] = lives[tensor][0], position
        for tensor in graph.operators[index].outputs:
            lives[tensor] = position, position
    for tensor in graph.outputs:
        lives[tensor] = lives[tensor][0], len(order)
    return lives


def _order_problems(graph: Graph, order: Sequence[int]) -> list[str]:
    if sorted(order) != list(range(len(graph.operators))):
        return ["the order does not run every operator once"]
    written = {tensor: o.index for o in graph.operators for tensor in o.outputs}
    position = {operator: i for i, operator in enumerate(order)}
    return [
        f"operator {o.index} runs before operator {written[tensor]}, whose output it reads"
        for o in graph.operators
        for tensor in o.inputs
        if tensor in written and position[written[tensor]] >= position[o.index]
    ]


def _roots(graph: Graph, needs: EngineNeeds) -> dict[int, tuple[int, int]]:
    """Activation -> the tensor that it is an alias or a part of, or itself, and at which byte it begins."""
    roots = {}
    parents = {
        graph.operators[operator].outputs[0]: (source, 0) for operator, source in needs.aliases.items()
    }
    for operator, parts in needs.parts.items():
        whole = whole_of(graph, graph.operators[operator], parts)
        parents |= {tensor: (whole, at) for tensor, at in parts.items()}
    for tensor in (*graph.inputs, *(t for operator in graph.operators for t in operator.outputs)):
        root, at = tensor, 0
        while root in parents:
            root, shift = parents[root]
            at += shift
        roots[tensor] = root, at
    return roots
