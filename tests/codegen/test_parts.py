from __future__ import annotations

from pathlib import Path

import numpy as np
from model_builder import ModelBuilder
from oracle import assert_bit_exact, generated
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

from converter.codegen import engine_needs
from converter.memory import check_plan, plan_memory


def _joined(axis: int) -> bytes:
    """Two convolutions of one input, joined along `axis` of [1, H, W, C], and split into halves again."""
    rng, builder = np.random.default_rng(9), ModelBuilder()
    data = builder.input([1, 4, 4, 4], 0.02)
    both = []
    for _ in range(2):
        weights = rng.integers(-127, 128, (8, 3, 3, 4)).astype(np.int8)
        output = builder.tensor([1, 4, 4, 8], "int8", 0.1)
        both.append(builder.conv_2d(data, weights, None, weight_scale=[0.01] * 8, output=output))
    shape = [1, 4, 4, 8]
    shape[axis] *= 2
    concatenation = schema.ConcatenationOptionsT()
    concatenation.axis = axis
    whole = builder.tensor(shape, "int8", 0.1)
    builder.operator("CONCATENATION", both, whole, concatenation, "ConcatenationOptions")
    split = schema.SplitOptionsT()
    split.numSplits = 2
    halves = [builder.tensor([1, 4, 4, 8], "int8", 0.1) for _ in range(2)]
    axis_tensor = builder.tensor([], "int32", data=np.array(axis))
    builder.operator("SPLIT", [axis_tensor, whole], halves, split, "SplitOptions")
    return builder.build(builder.binary("ADD", *halves, builder.tensor([1, 4, 4, 8], "int8", 0.2)))


def test_joins_and_splits_along_the_first_axis_need_neither_code_nor_memory(tmp_path: Path) -> None:
    data = _joined(1)
    graph = generated(data, tmp_path)
    plan = plan_memory(graph, engine_needs(graph))
    assert check_plan(graph, plan) == []
    join, split = (o.index for o in graph.operators if o.kind in ("CONCATENATION", "SPLIT"))
    assert set(plan.needs.parts) == {join, split}
    assert max(plan.live_bytes[join], plan.live_bytes[split]) == 2 * 128
    assert "kernels::copy" not in (tmp_path / "model.cc").read_text()
    assert_bit_exact(data, tmp_path, rounds=3, seed=2, sanitized=True)


def test_joins_and_splits_of_channels_are_copied(tmp_path: Path) -> None:
    data = _joined(3)
    graph = generated(data, tmp_path)
    assert not engine_needs(graph).parts
    assert (tmp_path / "model.cc").read_text().count("kernels::copy<") == 4
    assert_bit_exact(data, tmp_path, rounds=3, seed=3, sanitized=True)
