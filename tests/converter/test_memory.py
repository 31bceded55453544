from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from random_graphs import INT8, graphs_and_needs
from shared_data import shared_data
from tflite_files import residual_model

from converter.graph import Graph, Operator, Tensor
from converter.memory import EngineNeeds, MemoryPlan, check_plan, plan_memory
from converter.tflite_reader import load_graph, parse_graph


def _run(graph: Graph, plan: MemoryPlan) -> None:
    """Execute the graph on an arena whose bytes remember the value that they belong to."""
    needs, offsets = plan.needs, plan.tensor_offsets
    arena = np.full(plan.arena_bytes, -1)
    value = {}

    def place_of(tensor: int) -> slice:
        return slice(offsets[tensor], offsets[tensor] + graph.tensors[tensor].nbytes)

    def expect(tensor: int) -> None:
        assert (arena[place_of(tensor)] == value[tensor]).all()

    for tensor in graph.inputs:
        value[tensor] = tensor
        arena[place_of(tensor)] = tensor
    for operator in (graph.operators[index] for index in plan.order):
        for tensor in operator.inputs:
            expect(tensor)
        nbytes = needs.scratch.get(operator.index, 0)
        if nbytes:
            start = plan.scratch_offsets[operator.index]
            arena[start : start + nbytes] = 1000 + operator.index
        (output,) = operator.outputs
        source = needs.aliases.get(operator.index)
        value[output] = output if source is None else value[source]
        arena[place_of(output)] = value[output]
        if nbytes:
            assert (arena[start : start + nbytes] == 1000 + operator.index).all()
        overwritten = {value[tensor] for tensor in needs.in_place.get(operator.index, ())}
        for tensor in operator.inputs:
            taken = value[tensor] in overwritten
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
    _run(graph, plan)
    assert max(plan.live_bytes) == plan.live_bytes[plan.peak_operator] <= plan.lower_bound
    assert sum(piece.nbytes for piece in plan.peak) == max(plan.live_bytes)
    assert plan.lower_bound <= plan.arena_bytes
    assert plan.gap_bytes == 0


@settings(max_examples=100, deadline=None)
@given(graphs_and_needs())
def test_taking_storage_over_never_costs_memory(case: tuple[Graph, EngineNeeds]) -> None:
    graph, needs = case
    with_takeovers = plan_memory(graph, needs, alignment=1)
    without = plan_memory(graph, replace(needs, in_place={}), alignment=1)
    assert with_takeovers.lower_bound <= without.arena_bytes


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
