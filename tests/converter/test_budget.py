from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from shared_data import shared_data
from tflite_files import residual_model

from common.errors import ExitCode, OverBudgetError
from converter.board import Board, load_board
from converter.budget import check_budget
from converter.graph import Graph
from converter.memory import plan_memory
from converter.resize import largest_input, resized
from converter.tflite_reader import load_graph, parse_graph

BOARD = load_board("stm32f746g_disco")


def _board(ram: int, flash: int = 1 << 20) -> Board:
    """The board with as many bytes of RAM and flash."""
    sizes = {"dtcm": ram, "sram1": 0, "sram2": 0, "flash": flash}
    regions = [region.model_copy(update={"size": sizes.get(region.name, 0)}) for region in BOARD.memory]
    return BOARD.model_copy(update={"memory": tuple(regions)})


def _small() -> Graph:
    return parse_graph(residual_model(), "small")


def test_a_small_model_fits() -> None:
    graph = _small()
    plan = plan_memory(graph)
    verdict = check_budget(graph, plan, BOARD)
    verdict.require()
    assert (verdict.fits, verdict.problem) == (True, None)
    assert verdict.ram.total == plan.arena_bytes + verdict.ram.data_bss + BOARD.stack.reserve
    assert verdict.ram.budget == 327_680
    assert verdict.flash.budget == 1_048_576
    assert verdict.flash.weights == sum(layer.weights_bytes for layer in verdict.layers)
    assert verdict.macs == sum(layer.macs for layer in verdict.layers)
    assert verdict.layers[verdict.peak].live_bytes == max(layer.live_bytes for layer in verdict.layers)
    assert json.loads(json.dumps(asdict(verdict)))["layers"][0]["op"] == "CONV_2D"


def test_one_byte_decides() -> None:
    graph = _small()
    plan = plan_memory(graph)
    needed = check_budget(graph, plan, BOARD).ram.total
    assert check_budget(graph, plan, _board(needed)).fits
    assert not check_budget(graph, plan, _board(needed - 1)).fits
    needed = check_budget(graph, plan, BOARD).flash.total
    assert check_budget(graph, plan, _board(1 << 20, needed)).fits
    assert not check_budget(graph, plan, _board(1 << 20, needed - 1)).fits


def test_over_ram_names_amount_layer_tensors_and_an_input_that_really_fits() -> None:
    graph = load_graph(shared_data("models", "vww_96_int8.tflite"))
    plan = plan_memory(graph)
    board = _board(40_000)
    with pytest.raises(OverBudgetError) as caught:
        check_budget(graph, plan, board).require()
    message = str(caught.value)
    assert caught.value.exit_code == ExitCode.OVER_BUDGET
    assert "\n" not in message
    needed = 55_296 + 1024 + 4096
    assert (
        f"RAM {needed:,} of 40,000 bytes, {needed - 40_000:,} too many (arena 55,296, data 1,024," in message
    )
    assert "peak at CONV_2D 'conv2d_1' (layer 2): conv2d_1 36,864, depthwise_conv2d 18,432" in message
    assert "an input of 72x72 instead of 96x96 would fit" in message
    for size, fits in ((72, True), (80, False)):
        smaller = resized(graph, size, size)
        assert smaller is not None
        assert check_budget(smaller, plan_memory(smaller), board).fits == fits


def test_over_flash_names_amount_and_the_largest_layer() -> None:
    graph = load_graph(shared_data("models", "ad01_int8.tflite"))
    with pytest.raises(OverBudgetError, match=r"flash .* of 200,000 bytes.*most weights in FULLY_CONNECTED"):
        check_budget(graph, plan_memory(graph), _board(1 << 18, 200_000)).require()


def test_a_model_whose_input_cannot_shrink_gets_no_promise() -> None:
    graph = load_graph(shared_data("models", "ad01_int8.tflite"))
    problem = check_budget(graph, plan_memory(graph), _board(5_500)).problem
    assert problem is not None
    assert "would fit" not in problem
    assert "until the arena is at most" in problem


@pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 4), (5, 11), (1, 1), (32, 16)])
def test_resized_shapes_are_those_of_the_tflite_interpreter(height: int, width: int) -> None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=residual_model(), experimental_op_resolver_type=resolver)
    interpreter.resize_tensor_input(0, [1, height, width, 3])
    interpreter.allocate_tensors()
    graph = resized(_small(), height, width)
    assert graph is not None
    for detail in interpreter.get_tensor_details():
        if detail["index"] < len(graph.tensors):
            assert graph.tensors[detail["index"]].shape == tuple(np.asarray(detail["shape"]))


def test_flattened_maps_tie_a_model_to_its_resolution() -> None:
    graph = load_graph(shared_data("models", "micro_speech_quantized.tflite"))
    assert resized(graph, 10, 10) is None
    assert largest_input(graph, lambda smaller: True) is None
