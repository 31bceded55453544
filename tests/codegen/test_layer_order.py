from __future__ import annotations

from pathlib import Path

import numpy as np
from model_builder import ModelBuilder
from oracle import assert_bit_exact, generated

from converter.codegen import engine_needs
from converter.memory import plan_memory


def _heads(levels: int) -> bytes:
    """A small map is computed from a wide one at each level; the file has all wide ones first."""
    rng, builder = np.random.default_rng(5), ModelBuilder()
    data = builder.input([1, 8, 8, 4], 0.02)
    wide = []
    for _ in range(levels):
        weights = rng.integers(-127, 128, (16, 3, 3, 4)).astype(np.int8)
        output = builder.tensor([1, 8, 8, 16], "int8", 0.1)
        wide.append(builder.conv_2d(data, weights, None, weight_scale=[0.01] * 16, output=output))
    narrow = []
    for tensor in wide:
        output = builder.tensor([1, 2, 2, 16], "int8", 0.1)
        pool = builder.pool_2d("MAX_POOL_2D", tensor, output=output, window=(4, 4), strides=(4, 4))
        narrow.append(pool)
    total = narrow[0]
    for tensor in narrow[1:]:
        total = builder.binary("ADD", total, tensor, builder.tensor([1, 2, 2, 16], "int8", 0.2))
    return builder.build(total)


def test_layers_run_in_the_order_of_the_plan_and_keep_their_indices(tmp_path: Path) -> None:
    data = _heads(3)
    graph = generated(data, tmp_path)
    plan = plan_memory(graph, engine_needs(graph))
    assert plan.order != tuple(range(8))
    source = (tmp_path / "model.cc").read_text()
    assert f"kOrder[] = {{\n    {', '.join(map(str, plan.order))}}};" in source
    layers = [f"layer_{o.index}_{o.kind.lower()}," for o in graph.operators]
    assert [line.strip() for line in source.splitlines() if line.strip() in layers] == layers
    assert_bit_exact(data, tmp_path, rounds=3, seed=1, sanitized=True)


def test_the_file_order_needs_no_table(tmp_path: Path) -> None:
    generated(_heads(1), tmp_path)
    assert "kOrder" not in (tmp_path / "model.cc").read_text()
