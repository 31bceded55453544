from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from model_builder import ModelBuilder
from operator_cases import Rng
from oracle import assert_bit_exact

from common.errors import ModelError
from converter.codegen import check_support
from converter.tflite_reader import parse_graph

KINDS = ("ADD", "SUB", "MUL", "PRELU", "MAXIMUM", "MINIMUM")


def _broadcast(rng: Rng, shape: list[int]) -> list[int]:
    """A shape that broadcasts to `shape`: the same, per channel, per pixel, scalar, or anything."""
    choice = rng.integers(7)
    if choice == 0:
        return shape
    if choice == 1:
        return [1] * (len(shape) - 1) + shape[-1:]
    if choice == 2:
        return shape[-1:]
    if choice == 3:
        return [*shape[:-1], 1]
    if choice == 4:
        return [1]
    dropped = int(rng.integers(len(shape)))
    return [size if rng.random() < 0.5 else 1 for size in shape[dropped:]]


def _scale(rng: Rng) -> float:
    if rng.random() < 0.4:
        return float(np.float32(rng.integers(1, 50) / 100))  # Round figures give ties.
    return float(np.float32(math.exp(rng.uniform(math.log(0.002), math.log(0.5)))))


def _zero_point(rng: Rng) -> int:
    return int(rng.choice([-128, 0, 127, rng.integers(-128, 128)]))


def _operands(builder: ModelBuilder, rng: Rng, kind: str, shapes: list[list[int]]) -> tuple[list[int], float]:
    """Two operands, at most one of them a constant, and the scale of what comes out."""
    same = kind in ("MAXIMUM", "MINIMUM")
    steps = [(_scale(rng), _zero_point(rng)) for _ in shapes]
    constant = int(rng.choice([-1, 0, 1], p=[0.6, 0.1, 0.3]))
    operands = []
    for position, shape in enumerate(shapes):
        scale, zero_point = steps[0 if same else position]
        if position == constant:
            data = rng.integers(-128, 128, shape)
            operands.append(builder.tensor(shape, "int8", scale, zero_point, data=data))
        else:
            operands.append(builder.input(shape, scale, zero_point))
    if kind in ("ADD", "SUB"):
        return operands, steps[0][0] + steps[1][0]
    natural = steps[0][0] * steps[1][0] * 100
    return operands, max(natural, steps[0][0]) if kind == "PRELU" else natural


def _case(builder: ModelBuilder, rng: Rng, kind: str) -> int:
    shape = [int(size) for size in rng.integers(1, 7, int(rng.integers(1, 5)))]
    shapes = [shape, _broadcast(rng, shape)]
    if kind != "PRELU" and rng.random() < 0.3:
        shapes.reverse()
    if kind != "PRELU" and rng.random() < 0.1:
        shapes = [_broadcast(rng, shape), _broadcast(rng, shape)]
    operands, natural = _operands(builder, rng, kind, shapes)
    out = list(np.broadcast_shapes(*shapes))
    if kind in ("MAXIMUM", "MINIMUM"):
        scale, zero_point = builder.steps_of(operands[0])
        return builder.operator(kind, operands, builder.tensor(out, "int8", scale, zero_point))
    scale = natural * math.exp(rng.uniform(-1.5, 1.5)) / (300 if rng.random() < 0.1 else 1)
    if rng.random() < 0.4:
        scale = natural * rng.integers(1, 9) / rng.integers(1, 9)
    output = builder.tensor(out, "int8", scale, _zero_point(rng))
    if kind == "PRELU":
        return builder.operator(kind, operands, output)
    activation = str(rng.choice(["none", "relu", "relu6", "relu_n1_to_1"], p=[0.4, 0.3, 0.2, 0.1]))
    return builder.binary(kind, *operands, output, activation)


def _model(count: int, seed: int) -> bytes:
    """`count` operators of every kind side by side, each with inputs and an output of its own."""
    rng = np.random.default_rng(seed)
    builder = ModelBuilder()
    return builder.build(*[_case(builder, rng, kind) for kind in KINDS for _ in range(count)])


@pytest.mark.parametrize("seed", range(3))
def test_pairs_of_values_are_bit_exact(seed: int, tmp_path: Path) -> None:
    assert_bit_exact(_model(20, seed), tmp_path, rounds=6, seed=seed)


def test_pairs_of_values_are_free_of_undefined_behaviour(tmp_path: Path) -> None:
    assert_bit_exact(_model(8, 10), tmp_path, rounds=4, seed=11, sanitized=True)


@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL"])
def test_scalars_of_all_values_with_all_values(kind: str, tmp_path: Path) -> None:
    """All 65,536 pairs, once between two activations and once as tables."""
    builder = ModelBuilder()
    left = builder.input([256, 1], 0.03, 5)
    right = builder.input([1, 256], 0.05, -7)
    outputs = [builder.binary(kind, left, right, builder.tensor([256, 256], "int8", 0.04, 1))]
    for value in range(-128, 128, 15):
        scalar = builder.tensor([], "int8", 0.05, -7, data=np.array(value))
        outputs.append(builder.binary(kind, left, scalar, builder.tensor([256, 1], "int8", 0.04, 1)))
    ramp = np.arange(-128, 128, dtype=np.int8)
    inputs = [ramp.reshape(256, 1), ramp.reshape(1, 256)]
    assert_bit_exact(builder.build(*outputs), tmp_path, rounds=0, seed=0, also=[inputs])


def test_what_cannot_be_computed_is_refused() -> None:
    builder = ModelBuilder()
    data = builder.input([1, 4], 0.1)
    product = builder.binary("MUL", data, data, builder.tensor([1, 4], "int8", 1e-8))
    with pytest.raises(ModelError, match="output scale too small"):
        check_support(parse_graph(builder.build(product), "tiny"))


def test_two_constants_are_refused() -> None:
    builder = ModelBuilder()
    builder.input([1, 4], 0.1)
    constant = builder.tensor([1, 4], "int8", 0.1, data=np.ones(4))
    product = builder.binary("MUL", constant, constant, builder.tensor([1, 4], "int8", 0.1))
    with pytest.raises(ModelError, match="two constants"):
        check_support(parse_graph(builder.build(product), "constants"))
