from __future__ import annotations

from pathlib import Path

import operator_cases as cases
import pytest
from oracle import assert_bit_exact, generated

OPERATORS = [
    (cases.conv_2d, 60),
    (cases.depthwise_conv_2d, 60),
    (cases.depthwise_conv_2d_with_loud_channels, 50),
    (cases.depthwise_conv_2d_with_large_kernels, 40),
    (cases.conv_2d_with_loud_channels, 40),
    (cases.conv_2d_with_groups_or_dilation, 40),
    (cases.deep_sums, 30),
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


SELDOM_PLAIN = {
    cases.depthwise_conv_2d_with_large_kernels: 0,
    cases.conv_2d_with_groups_or_dilation: 0,
    cases.deep_sums: 0,
    # Where an accumulator would be multiplied by more than 2^7.
    cases.conv_2d_with_loud_channels: 8,
    cases.depthwise_conv_2d_with_loud_channels: 8,
}


@pytest.mark.parametrize(
    ("add_case", "most"), SELDOM_PLAIN.items(), ids=lambda case: getattr(case, "__name__", "")
)
def test_only_extreme_scales_need_the_plain_kernel(
    add_case: cases.AddCase, most: int, tmp_path: Path
) -> None:
    generated(cases.model_of(add_case, 20, seed=5), tmp_path)
    source = (tmp_path / "model.cc").read_text()
    assert source.count("kernels::conv2d_plain(") <= most
