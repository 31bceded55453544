from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import movement_cases as cases
import numpy as np
import pytest
from model_builder import ModelBuilder
from oracle import assert_bit_exact

AddCases = Callable[[ModelBuilder, np.random.Generator], list[int]]
KINDS: list[AddCases] = [
    cases.concatenation,
    cases.pack,
    cases.unpack,
    cases.split,
    cases.split_v,
    cases.slice_,
    cases.strided_slice,
    cases.transpose,
    cases.space_to_depth,
    cases.depth_to_space,
    cases.padv2,
    cases.squeeze,
]


def _model(count: int, seed: int) -> bytes:
    """`count` operators of every kind side by side, each with inputs and outputs of its own."""
    rng = np.random.default_rng(seed)
    builder = ModelBuilder()
    outputs = [output for kind in KINDS for _ in range(count) for output in kind(builder, rng)]
    return builder.build(*outputs)


@pytest.mark.parametrize("seed", range(3))
def test_values_move_as_in_the_interpreter(seed: int, tmp_path: Path) -> None:
    assert_bit_exact(_model(8, seed), tmp_path, rounds=2, seed=seed)


def test_moves_are_free_of_undefined_behaviour(tmp_path: Path) -> None:
    assert_bit_exact(_model(6, 10), tmp_path, rounds=2, seed=11, sanitized=True)
