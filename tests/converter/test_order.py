from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from random_graphs import INT8, graphs_and_needs

from converter.graph import Graph, Operator, Tensor
from converter.memory import EngineNeeds, check_plan, plan_memory
from converter.order import EffortError, best_order, orders_below, peak_of
from converter.placement import Span, place
from converter.storage import Work


def _orders(graph: Graph) -> Iterator[tuple[int, ...]]:
    """Every order in which each operator comes after those whose outputs it reads."""
    written = {tensor for operator in graph.operators for tensor in operator.outputs}

    def extend(order: tuple[int, ...], known: set[int]) -> Iterator[tuple[int, ...]]:
        if len(order) == len(graph.operators):
            yield order
        for operator in graph.operators:
            if operator.index not in order and set(operator.inputs) & written <= known:
                yield from extend((*order, operator.index), known | set(operator.outputs))

    return extend((), set())


def _root(graph: Graph, needs: EngineNeeds, tensor: int) -> int:
    sources = {graph.operators[operator].outputs[0]: source for operator, source in needs.aliases.items()}
    while tensor in sources:
        tensor = sources[tensor]
    return tensor


def _moments(graph: Graph, needs: EngineNeeds, order: Sequence[int]) -> list[tuple[set[int], set[int], int]]:
    """At each operator: the storages that live before it or with it, those that live after it, bytes saved.

    What lives is found by looking at all that is still to come, one moment at a time.
    """
    held = set(graph.inputs)
    found = []
    for position, index in enumerate(order):
        operator = graph.operators[index]
        later = {t for i in order[position + 1 :] for t in graph.operators[i].inputs} | set(graph.outputs)
        now = {t for t in held if t in later or t in operator.inputs or position == 0} | set(operator.outputs)
        before = {_root(graph, needs, t) for t in held if t in later or t in operator.inputs}
        after = {_root(graph, needs, t) for t in now if t in later}
        target = _root(graph, needs, operator.outputs[0])
        saved = 0
        for source in (_root(graph, needs, t) for t in needs.in_place.get(index, ())):
            if source not in after and target not in before:
                saved = max(saved, min(graph.tensors[source].nbytes, graph.tensors[target].nbytes))
        found.append(({_root(graph, needs, t) for t in now}, after, saved))
        held = {t for t in now if t in later}
    return found


def _peak(graph: Graph, needs: EngineNeeds, order: Sequence[int]) -> int:
    return max(
        sum(graph.tensors[root].nbytes for root in now) + needs.scratch.get(index, 0) - saved
        for index, (now, _, saved) in zip(order, _moments(graph, needs, order), strict=True)
    )


@settings(max_examples=60, deadline=None)
@given(graphs_and_needs(max_operators=6))
def test_the_order_of_a_small_graph_has_the_least_peak_of_all(case: tuple[Graph, EngineNeeds]) -> None:
    graph, needs = case
    work = Work(graph, needs, alignment=1)
    peaks = {order: _peak(graph, needs, order) for order in _orders(graph)}
    assert all(peak_of(work, order) == peak for order, peak in peaks.items())
    best = best_order(work)
    assert best.peak == best.lower_bound == min(peaks.values()) == peaks[best.order]
    assert best.is_only == (len(peaks) == 1)
    assert set(orders_below(work, lambda: best.peak + 1)) == {o for o in peaks if peaks[o] == best.peak}


@settings(max_examples=60, deadline=None)
@given(graphs_and_needs(max_operators=6))
def test_a_search_without_effort_still_gives_an_order_and_a_true_bound(
    case: tuple[Graph, EngineNeeds],
) -> None:
    graph, needs = case
    work = Work(graph, needs, alignment=1)
    peaks = {order: _peak(graph, needs, order) for order in _orders(graph)}
    found = best_order(work, effort=0)
    assert found.lower_bound <= min(peaks.values()) <= found.peak == peaks[found.order]
    assert found.peak <= peaks[tuple(range(len(graph.operators)))]


@settings(max_examples=40, deadline=None)
@given(graphs_and_needs(max_operators=5))
def test_no_order_and_placement_need_less_than_the_plan(case: tuple[Graph, EngineNeeds]) -> None:
    graph, needs = case
    needs = EngineNeeds(needs.scratch, {}, needs.aliases)
    least = None
    for order in _orders(graph):
        lives: dict[int, list[int]] = {}
        for position, (now, _, _) in enumerate(_moments(graph, needs, order)):
            for root in now:
                lives.setdefault(root, []).append(position)
        blocks = [[Span(min(at), max(at), graph.tensors[root].nbytes)] for root, at in lives.items()]
        scratch = [(i, needs.scratch.get(index, 0)) for i, index in enumerate(order)]
        blocks += [[Span(i, i, nbytes)] for i, nbytes in scratch if nbytes]
        placement = place(blocks, effort=10**9)
        assert placement.height == placement.lower_bound
        least = placement.height if least is None else min(least, placement.height)
    plan = plan_memory(graph, needs, alignment=1, effort=10**9)
    assert plan.lower_bound == plan.arena_bytes == least


class _Net:
    """Builds graphs of operators that read some tensors and write one."""

    def __init__(self, nbytes: int) -> None:
        self._sizes = [nbytes]
        self._operators: list[Operator] = []

    def add(self, nbytes: int, *reads: int) -> int:
        index = len(self._operators)
        self._operators.append(Operator(index, "OP", f"op{index}", reads, (len(self._sizes),)))
        self._sizes.append(nbytes)
        return len(self._sizes) - 1

    def graph(self, *outputs: int) -> Graph:
        tensors = tuple(Tensor(i, f"t{i}", (nbytes,), INT8) for i, nbytes in enumerate(self._sizes))
        return Graph("net", "", tensors, tuple(self._operators), (0,), outputs)


def _heads(levels: int) -> Graph:
    """A detector whose file computes all wide maps before it squeezes any of them."""
    net = _Net(800)
    wide = [net.add(800, 0) for _ in range(levels)]
    narrow = [net.add(80, tensor) for tensor in wide]
    return net.graph(net.add(80, *narrow))


def test_branches_are_computed_one_after_another() -> None:
    graph = _heads(6)
    plan = plan_memory(graph)
    # The input, one wide map, and five narrow ones; in the file's order it would be seven wide maps.
    assert plan.arena_bytes == plan.lower_bound == 800 + 800 + 5 * 80
    assert peak_of(Work(graph, EngineNeeds(), 8), range(13)) == 7 * 800
    assert check_plan(graph, plan) == []
    position = {operator: i for i, operator in enumerate(plan.order)}
    assert all(piece.first == position[t - 1] for piece in plan.allocations if (t := piece.tensor))


def test_the_file_order_stays_where_another_gains_nothing() -> None:
    net = _Net(800)
    left, right = net.add(80, 0), net.add(80, 0)
    graph = net.graph(net.add(800, left, right))
    assert plan_memory(graph).order == (0, 1, 2)


def test_a_plan_with_a_wrong_order_is_found_out() -> None:
    graph = _heads(2)
    plan = plan_memory(graph)
    swapped = plan.__class__(**{**vars(plan), "order": plan.order[::-1]})
    assert "runs before operator" in check_plan(graph, swapped)[0]
    short = plan.__class__(**{**vars(plan), "order": plan.order[1:]})
    assert check_plan(graph, short) == ["the order does not run every operator once"]


def test_parts_between_cuts_are_solved_apart() -> None:
    # Each module alone has many orders; together they would have far more than can be tried.
    net, data = _Net(1600), 0
    for _ in range(20):
        wide = [net.add(800 + 8 * i, data) for i in range(6)]
        narrow = [net.add(80, tensor) for tensor in wide]
        data = net.add(1600, *narrow)
    best = best_order(Work(net.graph(data), EngineNeeds(), 8))
    # The smallest wide tensor comes last, when the module's input has died; so the second smallest counts.
    assert best.peak == best.lower_bound == 1600 + 808 + 5 * 80


def test_200_operators_without_any_cut_are_ordered_with_a_bound() -> None:
    rng = np.random.default_rng(0)
    net = _Net(8000)
    for _ in range(199):
        reads = {int(t) for t in rng.integers(max(0, len(net._sizes) - 40), len(net._sizes), 2)}
        net.add(8 * int(rng.integers(1, 1000)), *sorted(reads))
    read = {t for operator in net._operators for t in operator.inputs}
    graph = net.graph(net.add(8, *sorted(set(range(200)) - read)))
    work = Work(graph, EngineNeeds(), 8)
    best = best_order(work)
    assert best.lower_bound <= best.peak == peak_of(work, best.order) <= peak_of(work, range(200))
    with pytest.raises(EffortError):
        list(orders_below(work, lambda: best.peak + 1, effort=1000))
