"""The memory plan: when each activation lives, where it lies in the arena, and which layer makes the peak."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from converter.graph import Graph
from converter.placement import Span, place

# What the engine promises for tensors, and what 64-bit loads want.
ALIGNMENT = 8


@dataclass(frozen=True)
class EngineNeeds:
    """What an engine needs beside the tensors, and what its kernels can do without.

    scratch: operator -> bytes of working memory while it runs.
    in_place: operator -> input tensor on whose storage its first output may lie exactly, if nothing reads
        that tensor later.
    aliases: operator -> input tensor whose storage its first output always is (RESHAPE).
    """

    scratch: Mapping[int, int] = field(default_factory=dict)
    in_place: Mapping[int, int] = field(default_factory=dict)
    aliases: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Allocation:
    """A piece of the arena: of a tensor, or, where `tensor` is None, scratch of operator `first`.

    name: of the layer that writes it, or of the graph's input; offset, nbytes: in the arena; first, last:
    operators between which it holds a value (both included).
    """

    name: str
    tensor: int | None
    offset: int
    nbytes: int
    first: int
    last: int


@dataclass(frozen=True)
class MemoryPlan:
    """Where everything lies in the arena. All sizes in bytes.

    live_bytes: per operator, what it and those after it need at that moment, storage that tensors share
    counted once; peak_operator: the first with the most; peak: what lives there, largest first;
    lower_bound: no plan with these scratch buffers and shared storages can be smaller; needs: what the plan
    was made for.
    """

    arena_bytes: int
    lower_bound: int
    alignment: int
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
        return {a.first: a.offset for a in self.allocations if a.tensor is None}


def plan_memory(graph: Graph, needs: EngineNeeds | None = None, alignment: int = ALIGNMENT) -> MemoryPlan:
    """Give every activation and scratch buffer of `graph` a place in one arena.

    The graph's inputs live from the first operator on, its outputs until after the last one.

    Raises:
        ValueError: `needs` names operators or tensors that do not fit together.
    """
    needs = needs or EngineNeeds()
    lives = _lifetimes(graph)
    groups = _Groups(graph, needs, lives)
    members: dict[int, list[int]] = defaultdict(list)
    for tensor in lives:
        members[groups.block(tensor)].append(tensor)
    scratch = [(operator, nbytes) for operator, nbytes in sorted(needs.scratch.items()) if nbytes > 0]
    blocks = [
        [Span(*lives[t], _aligned(graph.tensors[t].nbytes, alignment)) for t in tensors]
        for tensors in members.values()
    ]
    blocks += [[Span(operator, operator, _aligned(nbytes, alignment))] for operator, nbytes in scratch]
    placement = place(blocks)
    names = _names(graph)
    end = len(graph.operators) - 1
    allocations = [
        Allocation(names[t], t, base, graph.tensors[t].nbytes, lives[t][0], min(lives[t][1], end))
        for tensors, base in zip(members.values(), placement.bases, strict=False)
        for t in tensors
    ]
    allocations += [
        Allocation(f"scratch of {graph.operators[operator].name}", None, base, nbytes, operator, operator)
        for (operator, nbytes), base in zip(scratch, placement.bases[len(members) :], strict=True)
    ]
    live_bytes = tuple(sum(a.nbytes for a in _live_at(allocations, i)) for i in range(len(graph.operators)))
    peak_operator = max(range(len(live_bytes)), key=live_bytes.__getitem__)
    peak = _live_at(allocations, peak_operator)
    return MemoryPlan(
        placement.height,
        placement.lower_bound,
        alignment,
        tuple(allocations),
        live_bytes,
        peak_operator,
        tuple(sorted(peak, key=lambda a: -a.nbytes)),
        needs,
    )


def check_plan(graph: Graph, plan: MemoryPlan) -> list[str]:
    """Check a plan without trusting how it was made; returns what is wrong with it, nothing if it holds.

    Checked: every activation and scratch buffer has its bytes inside the arena, aligned; aliases lie where
    they must; no two others overlap while both hold a value, except an operator's output on the input that it
    may overwrite there for the last time.
    """
    lives, needs = _lifetimes(graph), plan.needs
    offsets, scratch = plan.tensor_offsets, plan.scratch_offsets
    wanted = {operator: nbytes for operator, nbytes in needs.scratch.items() if nbytes > 0}
    problems = [f"tensor {t} has no place" for t in lives if t not in offsets]
    problems += [f"operator {operator} has no scratch" for operator in wanted if operator not in scratch]
    if problems:
        return problems
    roots = _alias_roots(graph, needs)
    pieces = [(offsets[t], graph.tensors[t].nbytes, *life, roots.get(t, t)) for t, life in lives.items()]
    pieces += [(scratch[o], nbytes, o, o, -1 - o) for o, nbytes in wanted.items()]
    for offset, nbytes, *_, root in pieces:
        if offset < 0 or offset + nbytes > plan.arena_bytes or offset % plan.alignment:
            problems.append(f"{nbytes} bytes at {offset} are not aligned inside the arena")
        if root >= 0 and offset != offsets[root]:
            problems.append(f"an alias of tensor {root} lies at {offset} instead of {offsets[root]}")
    takeovers = {
        (operator, roots.get(source, source), roots.get(target, target))
        for operator, source in needs.in_place.items()
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
                problems.append(f"tensors {root} and {other} overlap at operator {begin}")
    return problems


def _aligned(nbytes: int, alignment: int) -> int:
    return -(-nbytes // alignment) * alignment


def _live_at(allocations: Iterable[Allocation], operator: int) -> list[Allocation]:
    """What lives at an operator; of pieces at one offset, which share their storage, the largest."""
    largest: dict[int, Allocation] = {}
    for piece in allocations:
        if piece.first <= operator <= piece.last:
            held = largest.get(piece.offset)
            if held is None or piece.nbytes > held.nbytes:
                largest[piece.offset] = piece
    return list(largest.values())


def _names(graph: Graph) -> dict[int, str]:
    """Activation -> what users know it as."""
    names = {tensor: graph.tensors[tensor].name for tensor in graph.inputs}
    for operator in graph.operators:
        for position, tensor in enumerate(operator.outputs):
            names[tensor] = operator.name if position == 0 else f"{operator.name}:{position}"
    return names


def _lifetimes(graph: Graph) -> dict[int, tuple[int, int]]:
    """Activation -> first and last operator at which it holds a value; outputs outlive the last operator."""
    lives = dict.fromkeys(graph.inputs, (0, 0))
    for operator in graph.operators:
        for tensor in operator.inputs:
            if tensor in lives:
                lives[tensor] = lives[tensor][0], operator.index
        for tensor in operator.outputs:
            lives[tensor] = operator.index, operator.index
    for tensor in graph.outputs:
        lives[tensor] = lives[tensor][0], len(graph.operators)
    return lives


def _alias_roots(graph: Graph, needs: EngineNeeds) -> dict[int, int]:
    """Output of an aliasing operator -> the tensor whose storage it is."""
    roots: dict[int, int] = {}
    for operator, source in sorted(needs.aliases.items()):
        roots[graph.operators[operator].outputs[0]] = roots.get(source, source)
    return roots


class _Groups:
    """Which tensors share one base address.

    Aliases always do. An output joins the storage that it may take over if everything that lies there, its
    aliases included, is read for the last time by that operator: at every moment that needs no more memory
    than two places.
    """

    def __init__(self, graph: Graph, needs: EngineNeeds, lives: Mapping[int, tuple[int, int]]) -> None:
        self._roots = _alias_roots(graph, needs)
        self._blocks: dict[int, int] = {}
        for operator, source in [*needs.aliases.items(), *needs.in_place.items()]:
            if source not in graph.operators[operator].inputs or source not in lives:
                raise ValueError(f"operator {operator} does not read an activation {source}")
        last_use: dict[int, int] = defaultdict(int)
        for tensor, (_, last) in lives.items():
            root = self._roots.get(tensor, tensor)
            last_use[root] = max(last_use[root], last)
        for operator, source in sorted(needs.in_place.items()):
            target = graph.operators[operator].outputs[0]
            root = self._roots.get(source, source)
            if last_use[root] == operator and target not in self._roots:
                self._blocks[target] = self._blocks.get(root, root)

    def block(self, tensor: int) -> int:
        """The tensor that stands for the storage of `tensor`."""
        root = self._roots.get(tensor, tensor)
        return self._blocks.get(root, root)
