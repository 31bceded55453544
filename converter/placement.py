"""Placement of blocks of memory that are needed at known times, in as little memory as possible.

This is dynamic storage allocation with all requests known (NP-hard; Garey & Johnson, problem SR2): first
fit in several orders, each order improved by moving the blocks that lie too high to the front (Joslin and
Clements, "Squeaky Wheel Optimization", 1999, section 2), then branch and bound over active placements as in
job-shop scheduling (Giffler and Thompson, "Algorithms for solving production-scheduling problems", 1960),
memory being the time axis.
Nothing here is random or timed: the same blocks always get the same places.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Blocks tried, some 10 us each on a workstation: up to half of them by first fit, others by branch and bound.
EFFORT = 40_000
ROUNDS = 20
SEARCH_BLOCKS = 400

_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Span:
    """`size` bytes from a block's base, needed at the times `first` to `last` (both included)."""

    first: int
    last: int
    size: int


# A block has one base and needs one or more spans of memory there, which may overlap each other.
Block = Sequence[Span]


@dataclass(frozen=True)
class Placement:
    """Where the blocks lie.

    bases: of each block; height: bytes that all need together; lower_bound: bytes below which no placement
    of these blocks can be, proven; effort: blocks tried to find it.
    """

    bases: tuple[int, ...]
    height: int
    lower_bound: int
    effort: int


def place(blocks: Sequence[Block], effort: int = EFFORT, below: int | None = None) -> Placement:
    """Place blocks so that no two overlap at a time at which both are needed.

    effort: blocks that may be tried, above what one placement takes; below: only a height less than this is
    wanted, so that the lower bound need not be proven beyond it.
    """
    if not blocks:
        return Placement((), 0, 0, 0)
    problem = _Problem(blocks)
    bound = problem.lower_bound
    cost = len(blocks) + int((problem.separation > 0).sum()) // 200
    tries = max(1, effort // 2 // cost)
    rounds = min(ROUNDS if below is None else 1, max(1, tries // 8))
    candidates = (bases for order in _orders(problem) for bases in _refine(problem, order, rounds))
    best, height, spent = None, 0, 0
    for bases in itertools.islice(candidates, tries):
        spent += cost
        reached = int((bases + problem.sizes).max())
        if best is None or reached < height:
            best, height = bases, reached
        if height == bound:
            break
    assert best is not None
    wanted = height if below is None else min(height, below)
    if wanted > bound and len(blocks) <= SEARCH_BLOCKS:
        search = _Search(problem, wanted, effort - spent)
        search.run()
        spent = effort - search.effort
        if search.best is not None:
            best, height = search.best, search.height
        if search.exhausted:
            bound = search.height
    return Placement(tuple(int(base) for base in best), height, bound, spent)


class _Problem:
    """The blocks as arrays.

    extents: int64 [block, time], bytes needed from the base; sizes: int64 [block], their maxima;
    separation: int64 [i, j], least distance from base i to base j when i lies below j, 0 without conflict.
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        times = sorted({time for block in blocks for span in block for time in (span.first, span.last)})
        place_of = {time: i for i, time in enumerate(times)}
        self.extents: _Ints = np.zeros((len(blocks), len(times)), dtype=np.int64)
        for row, block in zip(self.extents, blocks, strict=True):
            for span in block:
                window = row[place_of[span.first] : place_of[span.last] + 1]
                np.maximum(window, span.size, out=window)
        self.sizes: _Ints = self.extents.max(axis=1)
        self.lower_bound = int(self.extents.sum(axis=0).max())
        self.separation: _Ints = np.zeros((len(blocks), len(blocks)), dtype=np.int64)
        busy = np.zeros((len(times) + 1, len(blocks)), dtype=np.int64)
        np.cumsum(self.extents.T > 0, axis=0, out=busy[1:])
        for row, block in zip(self.separation, blocks, strict=True):
            for span in block:
                meets = busy[place_of[span.last] + 1] > busy[place_of[span.first]]
                np.maximum(row, np.where(meets, span.size, 0), out=row)
        np.fill_diagonal(self.separation, 0)


def _orders(problem: _Problem) -> Iterator[_Ints]:
    """Orders in which first fit does well, best first."""
    duration = (problem.extents > 0).sum(axis=1)
    crowd = problem.extents.sum(axis=0)
    crowding = np.where(problem.extents > 0, crowd, 0).max(axis=1)
    first = (problem.extents > 0).argmax(axis=1)
    sizes = problem.sizes
    yield np.lexsort((-duration, -sizes))
    yield np.lexsort((-sizes, -crowding))
    yield np.lexsort((-sizes, -duration))
    yield np.argsort(-sizes * duration, kind="stable")
    yield np.argsort(-problem.extents.sum(axis=1), kind="stable")
    yield np.argsort(-(problem.separation > 0).sum(axis=1), kind="stable")
    yield np.lexsort((-sizes, first))
    yield np.lexsort((-sizes, -first))


def _refine(problem: _Problem, order: _Ints, rounds: int) -> Iterator[_Ints]:
    """First fit, again and again, blocks that reached above the lower bound moving forward each time."""
    blocks = len(order)
    rank = np.empty(blocks)
    rank[order] = np.arange(blocks)
    for _ in range(rounds):
        bases = _first_fit(problem, np.argsort(rank, kind="stable"))
        yield bases
        excess = (bases + problem.sizes - problem.lower_bound).clip(0)
        rank -= np.where(excess > 0, blocks * (0.1 + 0.3 * excess / excess.max()), 0)


def _first_fit(problem: _Problem, order: _Ints) -> _Ints:
    """Give each block in turn the lowest base at which it conflicts with none placed before."""
    bases = np.full(len(order), -1, dtype=np.int64)
    for block in order:
        others = np.flatnonzero((problem.separation[block] > 0) & (bases >= 0))
        forbidden_from = bases[others] - problem.separation[block, others]
        forbidden_to = bases[others] + problem.separation[others, block]
        ascending = np.argsort(forbidden_from, kind="stable")
        reach = np.maximum.accumulate(np.append(0, forbidden_to[ascending]))
        free = np.flatnonzero(reach[:-1] <= forbidden_from[ascending])
        bases[block] = reach[free[0]] if len(free) else reach[-1]
    return bases


class _Search:
    """Depth-first branch and bound; blocks are placed in the order of their bases.

    Every compact placement arises so, each block lying on the highest conflicting block below it. A block
    need not be tried where another one would fit wholly beneath it (the placement would not be active).
    """

    def __init__(self, problem: _Problem, height: int, effort: int) -> None:
        self.best: _Ints | None = None
        self.height, self.effort = height, effort
        self._problem = problem
        self._extents = problem.extents[:, _undominated(problem.extents)]
        self._bases = np.zeros(len(problem.sizes), dtype=np.int64)
        # What is left to place and from which bases on -> the least block placed last on the way there.
        self._seen: dict[bytes, tuple[int, int]] = {}

    @property
    def exhausted(self) -> bool:
        """No placement is lower than `height`."""
        return self.effort > 0 or self.height == self._problem.lower_bound

    def run(self) -> None:
        """Find a `best` below `height` until there is none or the effort is used up."""
        blocks, times = self._extents.shape
        skyline = np.zeros(times, dtype=np.int64)
        lowest = np.zeros(blocks, dtype=np.int64)
        self._visit(np.ones(blocks, dtype=bool), lowest, skyline, self._extents.sum(axis=0), (0, -1))

    def _visit(
        self, free: npt.NDArray[np.bool_], lowest: _Ints, skyline: _Ints, left: _Ints, last: tuple[int, int]
    ) -> None:
        """Try all blocks that may come next, unless that was done or cannot end below `height`.

        free: bool [block], not placed yet; lowest: [block], least base above the placed ones; skyline:
        [time], top of the placed ones; left: [time], bytes to place; last: base and index placed last.
        """
        remaining = np.flatnonzero(free)
        if not len(remaining):
            self.best, self.height = self._bases.copy(), int(skyline.max())
            return
        sizes = self._problem.sizes
        state = remaining.tobytes() + lowest[remaining].tobytes()
        if state in self._seen and self._seen[state] <= last:
            return
        self._seen[state] = last
        self.effort -= len(remaining)
        bases = np.maximum(lowest[remaining], last[0])[:, np.newaxis]
        floor = np.where(self._extents[remaining] > 0, bases, self.height).min(axis=0)
        if np.where(left > 0, floor + left, 0).max() >= self.height:
            return
        ceiling = int((lowest[remaining] + sizes[remaining]).min())
        branches = []
        for block in remaining:
            base = int(lowest[block])
            if base >= ceiling or (base, int(block)) <= last:
                continue
            extent = self._extents[block]
            risen = np.where(extent > 0, base + extent, skyline)
            rest = left - extent
            reach = int(np.where(rest > 0, np.maximum(risen, base) + rest, risen).max())
            branches.append((reach, base, -int(sizes[block]), int(block), risen, rest))
        for reach, base, _, block, risen, rest in sorted(branches, key=lambda branch: branch[:4]):
            if reach >= self.height or self.effort <= 0 or self.height == self._problem.lower_bound:
                return
            self._bases[block] = base
            free[block] = False
            above = np.where(
                self._problem.separation[block] > 0,
                np.maximum(lowest, base + self._problem.separation[block]),
                lowest,
            )
            self._visit(free, above, risen, rest, (base, block))
            free[block] = True


def _undominated(extents: _Ints) -> list[int]:
    """Times at which something is needed that is not also needed at a neighbouring time that is kept."""
    kept: list[int] = []
    for time in range(extents.shape[1]):
        column = extents[:, time]
        if kept and (column <= extents[:, kept[-1]]).all():
            continue
        while kept and (extents[:, kept[-1]] <= column).all():
            kept.pop()
        kept.append(time)
    return kept
