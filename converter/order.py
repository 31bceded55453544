"""The order of execution that needs the least memory at once.

What lives after some operators depends on which they are and not on their order, so the best order is a path
through the sets of operators closed under "comes before", along which the largest step is as small as can be:
Dijkstra's algorithm with maxima for sums ("A note on two problems in connexion with graphs", 1959). It is
exact. Where it would take too long, a beam search gives the order, and the least maximum among the paths that
are still open is a proven lower bound. As in Ahn et al. ("Ordering Chaos: memory-aware scheduling of
irregularly wired neural networks for edge devices", 2020), the graph is first cut where all that comes later
depends on all that came before.
Nothing here is random or timed: the same graph always gets the same order.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from converter.storage import Work

# Operators tried: well under half a second on a workstation.
EFFORT = 40_000
BEAM = 16


class EffortError(Exception):
    """A search was given up."""


@dataclass(frozen=True)
class Ordering:
    """An order of execution.

    order: operators; peak: bytes that it needs at once; lower_bound: bytes that any order needs, proven;
    is_only: there is no other.
    """

    order: tuple[int, ...]
    peak: int
    lower_bound: int
    is_only: bool


def best_order(work: Work, effort: int = EFFORT) -> Ordering:
    """Find the order with the least peak; segments that do not make the peak keep the file's order."""
    peak = bound = work.floor()
    segments = _segments(work)
    order: list[int] = []
    done, live = 0, work.begin()
    for segment in segments:
        chosen = segment
        reached, after = _walk(work, segment, done, live)
        if reached > peak:
            search = _Search(work, segment, (done, live), peak, effort)
            other, least = search.run()
            effort = search.effort
            bound = max(bound, least) if least > peak else bound
            better, _ = _walk(work, other, done, live)
            if better < reached:
                chosen, reached = other, better
            peak = max(peak, reached)
        order += chosen
        done |= sum(1 << operator for operator in segment)
        live = after
    return Ordering(tuple(order), peak, bound, all(len(segment) == 1 for segment in segments))


def peak_of(work: Work, order: Sequence[int]) -> int:
    """Bytes that an order needs at once."""
    return _walk(work, order, 0, work.begin())[0]


def orders_below(work: Work, limit: Callable[[], int], effort: int = EFFORT) -> Iterator[tuple[int, ...]]:
    """All orders whose peak is less than `limit()`, which may shrink on the way.

    Raises:
        EffortError: there may be more, but they would take too long to find.
    """
    everything = (1 << len(work.steps)) - 1
    stack: list[tuple[int, int, int, tuple[int, ...]]] = [(0, work.begin(), 0, ())]
    while stack:
        done, live, peak, order = stack.pop()
        if peak >= limit():
            continue
        if done == everything:
            yield order
            continue
        for operator in reversed(range(len(work.steps))):
            if done >> operator & 1 or work.steps[operator].before & ~done:
                continue
            effort -= 1
            needed, left = work.run(done, live, operator)
            stack.append((done | 1 << operator, left, max(peak, needed), (*order, operator)))
        if effort <= 0:
            raise EffortError


def _walk(work: Work, order: Sequence[int], done: int, live: int) -> tuple[int, int]:
    """The most bytes needed on the way, and bytes that live at its end."""
    peak = live
    for operator in order:
        needed, live = work.run(done, live, operator)
        peak = max(peak, needed)
        done |= 1 << operator
    return peak, live


def _segments(work: Work) -> list[list[int]]:
    """Runs of operators such that each depends on all operators of the runs before its own."""
    ancestors: list[int] = []
    for step in work.steps:
        above, bits = step.before, step.before
        while bits:
            above |= ancestors[(bits & -bits).bit_length() - 1]
            bits &= bits - 1
        ancestors.append(above)
    segments: list[list[int]] = []
    until = len(ancestors)
    start = until
    # Operator i depends on as many of the first operators as its set of ancestors has ones at its low end.
    for i in reversed(range(len(ancestors))):
        until = min(until, (~ancestors[i] & (ancestors[i] + 1)).bit_length() - 1)
        if until >= i:
            segments.append(list(range(i, start)))
            start = i
    return segments[::-1]


class _Search:
    """Finds the best order of one segment.

    start: operators before it and the bytes that live then; floor: bytes that are needed anyway, so that
    nothing is won below; effort: what may still be tried, less what was.
    """

    def __init__(
        self, work: Work, segment: list[int], start: tuple[int, int], floor: int, effort: int
    ) -> None:
        self._work, self._segment = work, segment
        self._done, self._live = start
        self._floor, self.effort = floor, effort

    def run(self) -> tuple[list[int], int]:
        """An order, and bytes that any order needs or, if that is less, the floor."""
        goal = self._done | sum(1 << operator for operator in self._segment)
        # Set of operators -> least peak on the way to it, the set before, the operator between.
        reached = {self._done: (self._floor, self._done, -1)}
        closed = set()
        heap = [(self._floor, 0, self._live, self._done)]
        while heap:
            key, depth, live, done = heapq.heappop(heap)
            if done in closed:
                continue
            if done == goal:
                return self._trace(reached, done), key
            if self.effort <= 0:
                return self._beam(), key
            closed.add(done)
            for peak, left, operator in self._next(done, live, key):
                after = done | 1 << operator
                if after not in reached or peak < reached[after][0]:
                    reached[after] = peak, done, operator
                    heapq.heappush(heap, (peak, depth - 1, left, after))
        raise AssertionError("a graph has no cycles")

    def _next(self, done: int, live: int, key: int) -> list[tuple[int, int, int]]:
        """What may come next: peak so far, bytes that live then and the operator.

        An operator that leaves no more than lived before it, at no higher peak, may as well come at once:
        whatever comes before it in another order needs no more after it.
        """
        found = []
        for operator in self._ready(done):
            needed, left = self._work.run(done, live, operator)
            if needed <= key and left <= live:
                return [(key, left, operator)]
            found.append((max(needed, key), left, operator))
        return found

    def _ready(self, done: int) -> list[int]:
        ready = [o for o in self._segment if not done >> o & 1 and not self._work.steps[o].before & ~done]
        self.effort -= len(ready)
        return ready

    def _trace(self, reached: dict[int, tuple[int, int, int]], done: int) -> list[int]:
        order = []
        while done != self._done:
            _, done, operator = reached[done]
            order.append(operator)
        return order[::-1]

    def _beam(self) -> list[int]:
        """The best order found when only the best few sets of each size are followed."""
        beam: list[tuple[int, int, int, list[int]]] = [(self._floor, self._live, self._done, [])]
        for _ in self._segment:
            after: dict[int, tuple[int, int, int, list[int]]] = {}
            for peak, live, done, order in beam:
                for operator in self._ready(done):
                    needed, left = self._work.run(done, live, operator)
                    grown = done | 1 << operator
                    state = max(peak, needed), left, grown, [*order, operator]
                    after[grown] = min(state, after.get(grown, state))
            beam = sorted(after.values())[:BEAM]
        return beam[0][3]
