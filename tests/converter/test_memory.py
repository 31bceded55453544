from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from random_graphs import INT8, KINDS, PARTS, graphs_and_needs
from shared_data import shared_data
from tflite_files import residual_model

from converter.graph import Graph, Operator, Tensor
from converter.memory import EngineNeeds, MemoryPlan, check_plan, plan_memory
from converter.tflite_reader import load_graph, parse_graph

# A byte of a joined tensor between its parts, which nobody reads.
_ANY = -2


def _parts_of(graph: Graph, needs: EngineNeeds, operator: Operator) -> list[tuple[int, int, int]]:
    """(part, whole, offset) of what an operator joins or takes a part of."""
    parts = needs.parts.get(operator.index, {})
    joins = set(parts) <= set(operator.inputs)
    whole = operator.outputs[0] if joins else operator.inputs[0]
    return [(tensor, whole, at) for tensor, at in parts.items()]


def _result(graph: Graph, asked: EngineNeeds, operator: Operator, value: dict[int, np.ndarray]) -> np.ndarray:
    """The bytes that an operator computes: moved ones, or new ones that are known by its output."""
    (output,) = operator.outputs
    if operator.index in asked.aliases:
        return value[asked.aliases[operator.index]]
    found = np.full(graph.tensors[output].nbytes, _ANY)
    for part, whole, at in _parts_of(graph, asked, operator):
        if whole != output:
            return value[whole][at : at + len(found)]
        found[at : at + len(value[part])] = value[part]
    return found if operator.index in asked.parts else np.full(len(found), output)


def _run(graph: Graph, plan: MemoryPlan, asked: EngineNeeds) -> None:
    """Execute the graph on an arena whose bytes remember the value that they belong to."""
    needs, offsets = plan.needs, plan.tensor_offsets
    arena = np.full(plan.arena_bytes, -1)
    value: dict[int, np.ndarray] = {}

    def place_of(tensor: int) -> slice:
        return slice(offsets[tensor], offsets[tensor] + graph.tensors[tensor].nbytes)

    def expect(tensor: int) -> None:
        assert ((arena[place_of(tensor)] == value[tensor]) | (value[tensor] == _ANY)).all()

    for tensor in graph.inputs:
        value[tensor] = np.full(graph.tensors[tensor].nbytes, tensor)
        arena[place_of(tensor)] = tensor
    for operator in (graph.operators[index] for index in plan.order):
        for tensor in operator.inputs:
            expect(tensor)
        nbytes = needs.scratch.get(operator.index, 0)
        if nbytes:
            start = plan.scratch_offsets[operator.index]
            arena[start : start + nbytes] = 1000 + operator.index
        (output,) = operator.outputs
        value[output] = _result(graph, asked, operator, value)
        if operator.index not in needs.parts:
            arena[place_of(output)] = value[output]
        expect(output)
        if nbytes:
            assert (arena[start : start + nbytes] == 1000 + operator.index).all()
        overwritten = [value[tensor] for tensor in needs.in_place.get(operator.index, ())]
        for tensor in operator.inputs:
            taken = any(np.array_equal(value[tensor], other) for other in overwritten)
            if not taken or offsets[tensor] != offsets[output]:
                expect(tensor)
    for tensor in graph.outputs:
        expect(tensor)


@settings(max_examples=300, deadline=None)
@given(graphs_and_needs())
def test_a_planned_arena_never_loses_a_value(case: tuple[Graph, EngineNeeds]) -> None:
    graph, needs = case
    plan = plan_memory(graph, needs, alignment=4)
    assert check_plan(graph, plan) == []
    _run(graph, plan, needs)
    assert max(plan.live_bytes) == plan.live_bytes[plan.peak_operator] <= plan.arena_bytes
    assert sum(piece.nbytes for piece in plan.peak) == max(plan.live_bytes)
    assert plan.lower_bound <= plan.arena_bytes


@settings(max_examples=60, deadline=None)
@given(graphs_and_needs(max_operators=5))
def test_a_plan_of_few_operators_is_optimal_and_one_made_in_haste_says_how_far_it_may_be_from_it(
    case: tuple[Graph, EngineNeeds],
) -> None:
    graph, needs = case
    best = plan_memory(graph, needs, alignment=4, effort=10**9)
    assert best.gap_bytes == 0
    hasty = plan_memory(graph, needs, alignment=4, effort=0)
    assert check_plan(graph, hasty) == []
    assert hasty.lower_bound <= best.arena_bytes <= hasty.arena_bytes


@settings(max_examples=200, deadline=None)
@given(graphs_and_needs(kinds=(*KINDS, *PARTS)))
def test_parts_lie_in_their_whole_only_where_that_is_right_and_costs_nothing(
    case: tuple[Graph, EngineNeeds],
) -> None:
    graph, needs = case
    plan = plan_memory(graph, needs, alignment=4)
    assert check_plan(graph, plan) == []
    _run(graph, plan, needs)
    assert plan.needs.parts.items() <= needs.parts.items()
    assert max(plan.live_bytes) <= plan.arena_bytes
    assert plan.lower_bound <= plan.arena_bytes
    assert plan.arena_bytes <= plan_memory(graph, replace(needs, parts={}), alignment=4).arena_bytes


@settings(max_examples=100, deadline=None)
@given(graphs_and_needs())
def test_taking_storage_over_never_costs_memory(case: tuple[Graph, EngineNeeds]) -> None:
    graph, needs = case
    with_takeovers = plan_memory(graph, needs, alignment=1)
    without = plan_memory(graph, replace(needs, in_place={}), alignment=1)
    assert with_takeovers.lower_bound <= without.arena_bytes


@settings(max_examples=60, deadline=None)
@given(graphs_and_needs(max_operators=5, kinds=("in_place", "plain")))
def test_the_best_plan_takes_over_only_where_that_helps(case: tuple[Graph, EngineNeeds]) -> None:
    graph, needs = case
    best = plan_memory(graph, needs, alignment=1, effort=10**9)
    for fewer in ({}, dict(list(needs.in_place.items())[:1])):
        other = plan_memory(graph, replace(needs, in_place=fewer), alignment=1, effort=10**9)
        assert best.arena_bytes <= other.arena_bytes


@settings(max_examples=100, deadline=None)
@given(graphs_and_needs())
def test_the_check_finds_a_tensor_that_was_moved_onto_another(case: tuple[Graph, EngineNeeds]) -> None:
    graph, needs = case
    plan = plan_memory(graph, replace(needs, in_place={}, aliases={}), alignment=1)
    first = graph.operators[0]
    moved = tuple(
        replace(piece, offset=plan.tensor_offsets[first.inputs[0]])
        if piece.tensor == first.outputs[0]
        else piece
        for piece in plan.allocations
    )
    assert check_plan(graph, replace(plan, allocations=moved)) != []


# What lives at the worst layer, by hand from the models' shapes (input and output of that layer, residuals).
PEAKS = {
    "kws_ref_model": (16_000, "depthwise_conv2d"),
    "pretrainedResnet_quant": (49_152, "conv2d_2"),
    "vww_96_int8": (55_296, "conv2d_1"),
    "ad01_int8": (768, "dense"),
    "person_detect": (55_296, "Conv2d_1_pointwise"),
}


@pytest.mark.parametrize("name", PEAKS)
def test_real_models_are_planned_optimally(name: str) -> None:
    graph = load_graph(shared_data("models", f"{name}.tflite"))
    plan = plan_memory(graph)
    assert (plan.arena_bytes, graph.operators[plan.peak_operator].name) == PEAKS[name]
    assert plan.gap_bytes == 0
    assert check_plan(graph, plan) == []


def _chain(*sizes: int) -> Graph:
    tensors = tuple(Tensor(i, f"t{i}", (size,), INT8) for i, size in enumerate(sizes))
    operators = tuple(Operator(i, "OP", f"op{i}", (i,), (i + 1,)) for i in range(len(sizes) - 1))
    return Graph("chain", "", tensors, operators, (0,), (len(sizes) - 1,))


def test_taking_over_and_aliasing_save_what_they_should() -> None:
    graph = _chain(64, 64, 64)
    assert plan_memory(graph).arena_bytes == 128
    assert plan_memory(graph, EngineNeeds(in_place={0: (0,), 1: (1,)})).arena_bytes == 64
    assert plan_memory(graph, EngineNeeds(aliases={0: 0}, in_place={1: (1,)})).arena_bytes == 64
    assert plan_memory(graph, EngineNeeds(scratch={1: 100})).arena_bytes == 128 + 104


def _join() -> Graph:
    """Two tensors of 64 and 32 bytes that are joined."""
    tensors = tuple(Tensor(i, f"t{i}", (size,), INT8) for i, size in enumerate((8, 64, 32, 96)))
    operators = (
        Operator(0, "OP", "a", (0,), (1,)),
        Operator(1, "OP", "b", (0,), (2,)),
        Operator(2, "CONCATENATION", "c", (1, 2), (3,)),
    )
    return Graph("join", "", tensors, operators, (0,), (3,))


def test_joined_tensors_are_written_where_they_belong() -> None:
    graph = _join()
    assert plan_memory(graph).arena_bytes == 2 * 96
    plan = plan_memory(graph, EngineNeeds(parts={2: {1: 0, 2: 64}}))
    assert plan.arena_bytes == plan.lower_bound == 96 + 8
    offsets = plan.tensor_offsets
    assert (offsets[1], offsets[2]) == (offsets[3], offsets[3] + 64)
    assert max(plan.live_bytes) == 96 + 8


def test_parts_stay_apart_where_the_whole_would_have_to_wait_too_long() -> None:
    # The large tensor t2 lives between the small part t1 and the join; the whole would lie beside it.
    tensors = tuple(Tensor(i, f"t{i}", (size,), INT8) for i, size in enumerate((8, 8, 800, 400, 408)))
    operators = (
        Operator(0, "OP", "a", (0,), (1,)),
        Operator(1, "OP", "b", (1,), (2,)),
        Operator(2, "OP", "c", (2,), (3,)),
        Operator(3, "CONCATENATION", "d", (1, 3), (4,)),
    )
    graph = Graph("late", "", tensors, operators, (0,), (4,))
    plan = plan_memory(graph, EngineNeeds(parts={3: {1: 0, 3: 8}}))
    assert plan.needs.parts == {3: {1: 0, 3: 8}}
    assert plan.arena_bytes == 800 + 408
    larger = replace(graph, tensors=(*tensors[:2], replace(tensors[2], shape=(4000,)), *tensors[3:]))
    operators = (*operators[:2], Operator(2, "OP", "c", (2,), (5,)), Operator(4, "OP", "e", (5,), (3,)))
    middle = Tensor(5, "t5", (8,), INT8)
    join = Operator(3, "CONCATENATION", "d", (1, 3), (4,))
    operators = tuple(replace(o, index=i) for i, o in enumerate((*operators, join)))
    larger = replace(larger, tensors=(*larger.tensors, middle), operators=operators)
    plan = plan_memory(larger, EngineNeeds(parts={4: {1: 0, 3: 8}}))
    assert plan.needs.parts == {}
    assert plan.arena_bytes == 4000 + 8 + 8


def test_the_check_finds_a_part_outside_its_whole() -> None:
    graph = _join()
    plan = plan_memory(graph, EngineNeeds(parts={2: {1: 0, 2: 64}}))
    wrong = replace(plan, needs=EngineNeeds(parts={2: {1: 64, 2: 0}}))
    assert any("tensor 3" in problem for problem in check_plan(graph, wrong))
    with pytest.raises(ValueError, match="no part"):
        plan_memory(graph, EngineNeeds(parts={2: {1: 0, 2: 72}}))


def test_a_tensor_that_is_read_later_is_not_overwritten() -> None:
    tensors = tuple(Tensor(i, f"t{i}", (64,), INT8) for i in range(3))
    operators = (Operator(0, "OP", "a", (0,), (1,)), Operator(1, "OP", "b", (0, 1), (2,)))
    graph = Graph("skip", "", tensors, operators, (0,), (2,))
    plan = plan_memory(graph, EngineNeeds(in_place={0: (0,)}))
    assert plan.tensor_offsets[0] != plan.tensor_offsets[1]


def test_names_are_those_that_users_know() -> None:
    graph = parse_graph(residual_model(), "m")
    plan = plan_memory(graph, EngineNeeds(scratch={1: 5000}))
    assert graph.operators[plan.peak_operator].name == "t2"
    assert [piece.name for piece in plan.peak] == ["scratch of t2", "t1", "t2"]
    assert asdict(plan)["peak"][0]["nbytes"] == 5000


def test_needs_that_do_not_fit_the_graph_are_refused() -> None:
    with pytest.raises(ValueError, match="does not read an activation"):
        plan_memory(_chain(8, 8), EngineNeeds(aliases={0: 1}))
