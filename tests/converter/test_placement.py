from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converter.placement import Block, Placement, Span, place


@st.composite
def spans(draw: st.DrawFn) -> Span:
    first = draw(st.integers(0, 5))
    return Span(first, draw(st.integers(first, 6)), draw(st.integers(1, 5)))


blocks_of = st.lists(st.lists(spans(), min_size=1, max_size=2), min_size=1, max_size=5)


def _clash(a: Block, a_base: int, b: Block, b_base: int) -> bool:
    return any(
        x.first <= y.last and y.first <= x.last and a_base < b_base + y.size and b_base < a_base + x.size
        for x, y in itertools.product(a, b)
    )


def _check(blocks: list[Block], placement: Placement) -> None:
    for (a, a_base), (b, b_base) in itertools.combinations(zip(blocks, placement.bases, strict=True), 2):
        assert not _clash(a, a_base, b, b_base)
    tops = [base + max(s.size for s in block) for block, base in zip(blocks, placement.bases, strict=True)]
    assert placement.height == max(tops)
    assert min(placement.bases) >= 0
    assert placement.lower_bound <= placement.height


def _fits(blocks: list[Block], height: int, placed: list[tuple[Block, int]]) -> bool:
    """Whether the blocks can be placed below `height`: tries every base of every block."""
    if not blocks:
        return True
    block, rest = blocks[0], blocks[1:]
    for base in range(height - max(span.size for span in block) + 1):
        if not any(_clash(block, base, *other) for other in placed) and _fits(
            rest, height, [*placed, (block, base)]
        ):
            return True
    return False


@settings(max_examples=150, deadline=None)
@given(blocks_of)
def test_small_placements_are_optimal_and_proven(blocks: list[Block]) -> None:
    placement = place(blocks)
    _check(blocks, placement)
    assert placement.lower_bound == placement.height
    assert not _fits(blocks, placement.height - 1, [])


@settings(max_examples=100, deadline=None)
@given(blocks_of, st.integers(0, 300), st.integers(1, 20))
def test_whatever_the_effort_and_the_wish_the_bound_is_true(
    blocks: list[Block], effort: int, below: int
) -> None:
    placement = place(blocks, effort, below)
    _check(blocks, placement)
    best = place(blocks).height
    assert placement.lower_bound <= best <= placement.height
    if placement.lower_bound == below <= placement.height:
        assert not _fits(blocks, below - 1, [])


def test_a_placement_below_a_wish_is_found_where_there_is_one() -> None:
    blocks: list[Block] = [[Span(i, i + i % 3, 5 + 3 * i % 7)] for i in range(12)]
    best = place(blocks)
    assert place(blocks, below=best.height + 1).height == best.height
    assert place(blocks, below=best.height).lower_bound == best.height


def test_no_blocks_need_no_memory() -> None:
    assert place([]) == Placement((), 0, 0, 0)


def test_blocks_that_never_meet_share_everything() -> None:
    assert place([[Span(i, i, 7)] for i in range(20)]).height == 7


def test_a_case_in_which_the_best_is_above_the_most_bytes_at_one_time() -> None:
    # At most 4 bytes are needed at any time, yet no placement fits in 4.
    blocks = [
        [Span(0, 1, 2)],
        [Span(0, 2, 1)],
        [Span(1, 3, 1)],
        [Span(2, 3, 2)],
        [Span(3, 4, 1)],
        [Span(0, 0, 1)],
        [Span(4, 4, 3)],
    ]
    placement = place(blocks)
    _check(blocks, placement)
    assert placement.lower_bound == placement.height


@pytest.mark.parametrize("seed", range(6))
def test_networks_of_200_layers_are_placed_within_a_percent_of_the_bound(seed: int) -> None:
    rng = random.Random(seed)
    blocks = [
        [Span(i, min(200, i + rng.choice([1, 1, 1, 2, 3, 8])), rng.randint(1, 64) * rng.choice([8, 64, 512]))]
        for i in range(200)
    ]
    placement = place(blocks)
    _check(blocks, placement)
    assert placement.height <= 1.01 * placement.lower_bound
    assert place(blocks) == placement
