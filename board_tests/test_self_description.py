"""The image says what it is, and it is what the run folder holds."""

from __future__ import annotations

import re

import pytest

from board_tests.artefacts import Model
from converter.graph import Tensor
from tools.link.client import Link
from tools.link.description import TensorSpec
from tools.targets import Target


def test_image_is_of_this_board_and_clock(link: Link, board: Target, model: Model) -> None:
    description = link.hello()
    if board.name == "host":
        assert (description.board, description.counter) == ("host", "nanoseconds")
        return
    assert description.board == model.board.name
    assert description.chip == model.board.chip.name
    assert description.clock_hz == model.board.chip.clock_hz
    assert description.counter == "cycles"


def test_model_is_the_run_folders(link: Link, model: Model) -> None:
    description = link.hello()
    graph = model.graph
    assert description.model_sha256 == graph.sha256
    assert description.model == graph.name
    assert description.layers == len(graph.operators)
    assert set(description.ops) == {operator.kind for operator in graph.operators}


def test_inputs_and_outputs_are_the_models(link: Link, model: Model) -> None:
    description, graph = link.hello(), model.graph
    for specs, indices in ((description.inputs, graph.inputs), (description.outputs, graph.outputs)):
        assert len(specs) == len(indices)
        for spec, index in zip(specs, indices, strict=True):
            assert_same(spec, graph.tensors[index])


def assert_same(spec: TensorSpec, tensor: Tensor) -> None:
    assert (spec.dtype, spec.shape) == (tensor.dtype, tensor.shape)
    if tensor.quantization is not None:
        assert spec.scale == pytest.approx(tensor.scale, rel=1e-7)
        assert spec.zero_point == tensor.zero_point


def test_origin_is_told(link: Link) -> None:
    description = link.hello()
    assert description.engine in ("aot", "tflm")
    assert re.fullmatch(r"[0-9a-f]{7,40}(-dirty)?|unknown", description.git)
    assert description.compiler
    assert "-O" in description.flags
