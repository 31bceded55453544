"""Which activations share storage, and what each operator does to the storages that live."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from converter.graph import Graph, Operator


@dataclass(frozen=True)
class EngineNeeds:
    """What an engine needs beside the tensors, and what its kernels can do without.

    scratch: operator -> bytes of working memory while it runs.
    in_place: operator -> input tensors on whose storage its first output may lie exactly, if nothing reads
        that tensor later.
    aliases: operator -> input tensor whose storage its first output always is (RESHAPE).
    parts: operator -> the tensors that it joins into its first output or splits an input into, and
        the byte at which each begins there; a plan may let all of them lie there, or none.
    """

    scratch: Mapping[int, int] = field(default_factory=dict)
    in_place: Mapping[int, Sequence[int]] = field(default_factory=dict)
    aliases: Mapping[int, int] = field(default_factory=dict)
    parts: Mapping[int, Mapping[int, int]] = field(default_factory=dict)


def whole_of(graph: Graph, operator: Operator, parts: Mapping[int, int]) -> int:
    """The tensor that `parts` of `operator` lie in: the output that it joins, or the input that it splits."""
    if set(parts) & set(operator.inputs):
        return operator.outputs[0]
    return next(t for t in operator.inputs if t >= 0 and not graph.tensors[t].is_constant)


@dataclass(frozen=True)
class Storage:
    """Memory that tensors share from the first one's value to the last one's; sets of operators are bit sets.

    nbytes: aligned; writers, readers: of any of its tensors; is_input, is_output: one of them is the graph's.
    """

    nbytes: int
    writers: int
    readers: int
    is_input: bool
    is_output: bool


@dataclass(frozen=True)
class Step:
    """An operator as memory sees it.

    before: bit set of operators whose outputs it reads; writes, touches: storages; scratch: bytes, aligned;
    takeovers: pairs of a storage that it reads and one that it may begin there, if the first dies with it.
    """

    before: int
    writes: tuple[int, ...]
    touches: tuple[int, ...]
    scratch: int
    takeovers: tuple[tuple[int, int], ...]


class Work:
    """The storages of a graph and its operators' steps: all that the order of execution depends on.

    place_of: activation -> storage and offset in it.

    Raises:
        ValueError: the needs name operators or tensors that do not fit together.
    """

    def __init__(self, graph: Graph, needs: EngineNeeds, alignment: int) -> None:
        self._graph, self.needs, self.alignment = graph, needs, alignment
        self._activations = list(
            dict.fromkeys([*graph.inputs, *(t for o in graph.operators for t in o.outputs)])
        )
        self._producers = {t: operator.index for operator in graph.operators for t in operator.outputs}
        self._check()
        self.place_of = self._places()
        self.storages = self._storages()
        self.steps = tuple(self._step(operator) for operator in graph.operators)

    def begin(self) -> int:
        """Bytes that live before the first operator."""
        return sum(s.nbytes for s in self.storages if s.is_input and (s.readers or s.is_output))

    def run(self, done: int, live: int, operator: int) -> tuple[int, int]:
        """Bytes needed while `operator` runs after those of the bit set `done`, and bytes that live then.

        live: bytes that lived before it.
        """
        step, after = self.steps[operator], done | 1 << operator
        begun = sum(self.storages[s].nbytes for s in step.writes if self._begins(s, done))
        needed = live + begun + step.scratch
        if not done:
            needed += sum(s.nbytes for s in self.storages if s.is_input and not s.readers and not s.is_output)
        left = live + begun - sum(self.storages[s].nbytes for s in step.touches if self._dies(s, after))
        return needed - max(map(self._shared, self.takeovers(done, operator)), default=0), left

    def takeovers(self, done: int, operator: int) -> list[tuple[int, int]]:
        """Pairs of a storage that dies with `operator` and one that may begin in its place, best first."""
        possible = [
            (source, target)
            for source, target in self.steps[operator].takeovers
            if self._dies(source, done | 1 << operator) and self._begins(target, done)
        ]
        return sorted(possible, key=self._shared, reverse=True)

    def floor(self) -> int:
        """Bytes below which no order can stay: what single operators need, and what lives first and last."""
        return max(
            [
                self.begin(),
                sum(s.nbytes for s in self.storages if s.is_output),
                *(self._least(step) for step in self.steps),
            ]
        )

    def lives(self, order: Sequence[int]) -> list[tuple[int, int]]:
        """First and last position in `order` at which each storage is needed; outputs live on after it."""
        position = {operator: i for i, operator in enumerate(order)}
        found = []
        for storage in self.storages:
            first = 0 if storage.is_input else min(position[o] for o in _members(storage.writers))
            last = max([first, *(position[o] for o in _members(storage.writers | storage.readers))])
            found.append((first, len(order) if storage.is_output else last))
        return found

    def _check(self) -> None:
        activations = set(self._activations)
        sources = [*self.needs.aliases.items()]
        sources += [(o, t) for o, tensors in self.needs.in_place.items() for t in tensors]
        for operator, source in sources:
            if source not in self._graph.operators[operator].inputs or source not in activations:
                raise ValueError(f"operator {operator} does not read an activation {source}")
        for index, parts in self.needs.parts.items():
            joining = self._graph.operators[index]
            whole = whole_of(self._graph, joining, parts)
            for tensor, offset in parts.items():
                end = offset + self._graph.tensors[tensor].nbytes
                joined = tensor in (joining.inputs if whole in joining.outputs else joining.outputs)
                fits = joined and {tensor, whole} <= activations and offset >= 0
                if not fits or offset % self.alignment or end > self._graph.tensors[whole].nbytes:
                    raise ValueError(f"operator {index} has no part {tensor} at {offset} of tensor {whole}")

    def _places(self) -> dict[int, tuple[int, int]]:
        """Tensor -> the tensor that stands for its storage, and its offset in it."""
        parents: dict[int, tuple[int, int]] = {}
        for index, source in self.needs.aliases.items():
            parents[self._graph.operators[index].outputs[0]] = source, 0
        for index, parts in self.needs.parts.items():
            whole = whole_of(self._graph, self._graph.operators[index], parts)
            for tensor, offset in parts.items():
                if tensor in parents:
                    raise ValueError(f"tensor {tensor} is a part of two others")
                parents[tensor] = whole, offset
        places = {}
        for tensor in self._activations:
            root, offset = tensor, 0
            while root in parents:
                root, shift = parents[root]
                offset += shift
            places[tensor] = root, offset
        return places

    def _storages(self) -> tuple[Storage, ...]:
        """The storages; turns the roots of `place_of` into their indices."""
        writers: dict[int, int] = defaultdict(int)
        readers: dict[int, int] = defaultdict(int)
        nbytes: dict[int, int] = defaultdict(int)
        for tensor, (root, offset) in self.place_of.items():
            nbytes[root] = max(nbytes[root], offset + self._graph.tensors[tensor].nbytes)
        for operator in self._graph.operators:
            for tensor in operator.outputs:
                writers[self.place_of[tensor][0]] |= 1 << operator.index
            for tensor in operator.inputs:
                if tensor in self.place_of:
                    readers[self.place_of[tensor][0]] |= 1 << operator.index
        inputs = {self.place_of[tensor][0] for tensor in self._graph.inputs}
        outputs = {self.place_of[t][0] for t in self._graph.outputs if t in self.place_of}
        index = {root: i for i, root in enumerate(nbytes)}
        self.place_of = {tensor: (index[root], offset) for tensor, (root, offset) in self.place_of.items()}
        return tuple(
            Storage(
                aligned(nbytes[root], self.alignment),
                writers[root],
                readers[root],
                root in inputs,
                root in outputs,
            )
            for root in index
        )

    def _step(self, operator: Operator) -> Step:
        producers = sum(1 << o for o in {self._producers[t] for t in operator.inputs if t in self._producers})
        reads = [self.place_of[t][0] for t in operator.inputs if t in self.place_of]
        writes = tuple(dict.fromkeys(self.place_of[t][0] for t in operator.outputs))
        takeovers = []
        for tensor in self.needs.in_place.get(operator.index, ()):
            (source, at), (target, to) = self.place_of[tensor], self.place_of[operator.outputs[0]]
            # What else is read from that storage must lie exactly there too, or it would be overwritten.
            read = {
                (self.place_of[t][1], self._graph.tensors[t].nbytes)
                for t in operator.inputs
                if t in self.place_of and self.place_of[t][0] == source
            }
            if at == to == 0 and len(read) == 1 and source != target:
                takeovers.append((source, target))
        return Step(
            producers,
            writes,
            tuple(dict.fromkeys([*reads, *writes])),
            aligned(self.needs.scratch.get(operator.index, 0), self.alignment),
            tuple(takeovers),
        )

    def _begins(self, storage: int, done: int) -> bool:
        return not self.storages[storage].is_input and not self.storages[storage].writers & done

    def _dies(self, storage: int, done: int) -> bool:
        return not self.storages[storage].is_output and not self.storages[storage].readers & ~done

    def _shared(self, takeover: tuple[int, int]) -> int:
        return min(self.storages[s].nbytes for s in takeover)

    def _least(self, step: Step) -> int:
        saved = max(map(self._shared, step.takeovers), default=0)
        return sum(self.storages[s].nbytes for s in step.touches) + step.scratch - saved


def aligned(nbytes: int, alignment: int) -> int:
    """`nbytes` rounded up."""
    return -(-nbytes // alignment) * alignment


def _members(bits: int) -> Iterator[int]:
    while bits:
        yield (bits & -bits).bit_length() - 1
        bits &= bits - 1
