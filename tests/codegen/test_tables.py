"""Every table equals what tflite-micro answers for all 256 inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_builder import ModelBuilder
from oracle import interpreter, reference

from common.errors import ModelError
from converter.codegen.lowering.case import Case
from converter.codegen.lowering.tables import table
from converter.codegen.support import check_support
from converter.tflite_reader import parse_graph

ALL = np.arange(-128, 128, dtype=np.int8).reshape(1, 256)
# Round figures and simple ratios give sums that lie between two int8 values: there every bit counts.
SCALES = st.one_of(
    st.integers(1, 99).map(lambda n: n / 100),
    st.floats(math.log(1e-5), math.log(4.0)).map(lambda x: float(np.float32(math.exp(x)))),
)
RATIOS = st.one_of(
    st.builds(Fraction, st.integers(1, 20), st.integers(1, 20)).map(float),
    st.floats(-3.0, 3.0).map(math.exp),
)
ZERO_POINTS = st.one_of(st.sampled_from([-128, 0, 127]), st.integers(-128, 127))
FREE = ("HARD_SWISH", "LEAKY_RELU", "QUANTIZE", "RELU")


def _model(kind: str, data: tuple[float, int], output: tuple[float, int], alpha: float) -> bytes:
    builder = ModelBuilder()
    source = builder.input([1, 256], *data)
    target = builder.tensor([1, 256], "int8", *output)
    if kind == "LEAKY_RELU":
        return builder.build(builder.with_options(kind, [source], target, "LeakyReluOptions", alpha=alpha))
    return builder.build(builder.unary(kind, source, target))


def _assert_table_is_exact(data: bytes) -> None:
    graph = parse_graph(data, "table")
    check_support(graph)
    expected = reference(interpreter(data), [ALL])[0]
    np.testing.assert_array_equal(table(Case(graph, graph.operators[0])), expected.reshape(-1))


@pytest.mark.parametrize("kind", FREE)
@settings(max_examples=100, deadline=None)
@given(data=st.tuples(SCALES, ZERO_POINTS), ratio=RATIOS, out=ZERO_POINTS, alpha=st.floats(-2, 2, width=32))
def test_tables_of_any_output_quantization(
    kind: str, data: tuple[float, int], ratio: float, out: int, alpha: float
) -> None:
    _assert_table_is_exact(_model(kind, data, (data[0] * ratio, out), alpha))


FIXED: dict[str, Callable[[float, int], tuple[float, int]]] = {
    "LOGISTIC": lambda scale, zero_point: (1 / 256, -128),
    "TANH": lambda scale, zero_point: (1 / 128, 0),
    "RELU6": lambda scale, zero_point: (scale, zero_point),
}


@pytest.mark.parametrize("kind", FIXED)
@settings(max_examples=100, deadline=None)
@given(scale=SCALES, zero_point=ZERO_POINTS)
def test_tables_of_a_fixed_output_quantization(kind: str, scale: float, zero_point: int) -> None:
    _assert_table_is_exact(_model(kind, (scale, zero_point), FIXED[kind](scale, zero_point), 0.0))


@settings(max_examples=50, deadline=None)
@given(exponents=st.tuples(st.floats(-27, -8), st.floats(0, 25)), zero_point=ZERO_POINTS)
def test_hard_swish_of_values_near_zero(exponents: tuple[float, float], zero_point: int) -> None:
    scale = 2 ** exponents[0]
    _assert_table_is_exact(_model("HARD_SWISH", (scale, zero_point), (scale * 2 ** exponents[1], 3), 0.0))


@pytest.mark.parametrize(
    ("scale", "out"),
    [(0.02067505568265915, 0.008316518738865852), (0.4588012993335724, 0.3454742133617401)],
)
def test_scales_of_hard_swish_are_divided_in_double_precision(scale: float, out: float) -> None:
    _assert_table_is_exact(_model("HARD_SWISH", (scale, 0), (out, 0), 0.0))


@pytest.mark.parametrize(
    ("kind", "data", "output", "message"),
    [
        ("LOGISTIC", (0.1, 0), (1 / 128, 0), "1/256 and zero point -128"),
        ("TANH", (0.1, 0), (1 / 256, -128), "1/128 and zero point 0"),
        ("LOGISTIC", (1e-9, 0), (1 / 256, -128), "tiny scale"),
        ("HARD_SWISH", (0.5, 0), (1e-6, 0), "too small"),
        ("RELU", (0.5, 0), (1e-8, 0), "too small"),
    ],
)
def test_scales_out_of_range_are_refused(kind: str, data: Any, output: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        check_support(parse_graph(_model(kind, data, output, 0.1), "table"))
