from __future__ import annotations

from pathlib import Path

import operator_cases as cases
import pytest
from oracle import assert_bit_exact

OPERATORS = [
    (cases.conv_2d, 80),
    (cases.depthwise_conv_2d, 80),
    (cases.depthwise_conv_2d_with_loud_channels, 80),
    (cases.fully_connected, 40),
    (cases.add, 30),
    (cases.average_pool_2d, 30),
    (cases.max_pool_2d, 30),
    (cases.mean, 30),
    (cases.pad, 20),
    (cases.softmax, 40),
    (cases.requantize, 30),
    (cases.relu, 20),
    (cases.relu6, 20),
    (cases.quantize, 20),
    (cases.dequantize, 20),
    (cases.reshape, 10),
]


@pytest.mark.parametrize(("add_case", "count"), OPERATORS, ids=[case.__name__ for case, _ in OPERATORS])
def test_random_operators_are_bit_exact(add_case: cases.AddCase, count: int, tmp_path: Path) -> None:
    assert_bit_exact(cases.model_of(add_case, count, seed=1), tmp_path, rounds=8, seed=2)


@pytest.mark.parametrize("add_case", [case for case, _ in OPERATORS], ids=lambda case: case.__name__)
def test_random_operators_are_free_of_undefined_behaviour(add_case: cases.AddCase, tmp_path: Path) -> None:
    assert_bit_exact(cases.model_of(add_case, 12, seed=3), tmp_path, rounds=3, seed=4, sanitized=True)
