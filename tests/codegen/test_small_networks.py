"""Small networks out of the blocks that published ones are made of."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from model_builder import ModelBuilder
from oracle import assert_bit_exact, preserved_tensors, random_inputs

from converter.codegen import engine_needs
from converter.codegen.intervals import graph_intervals
from converter.codegen.lowering.case import Case
from converter.codegen.lowering.movement import MOVEMENT
from converter.memory import check_plan, plan_memory
from converter.tflite_reader import parse_graph

Shape = list[int]
SCALE, ZERO_POINT = 0.05, -4


class Network:
    """Layers with random weights; activations have one quantization throughout."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.b = ModelBuilder()

    def map(self, shape: Shape) -> int:
        return self.b.tensor(shape, "int8", SCALE, ZERO_POINT)

    def shape(self, tensor: int) -> Shape:
        return self.b.shape_of(tensor)

    def conv(self, data: int, channels: int, kernel: int = 1, stride: int = 1, dead: float = 0.0) -> int:
        """A convolution of which some channels have no weights."""
        n, height, width, depth = self.shape(data)
        weights = self.rng.integers(-127, 128, (channels, kernel, kernel, depth)).astype(np.int8)
        bias = self.rng.integers(-3000, 3000, channels).astype(np.int32)
        weights[self.rng.random(channels) < dead] = 0
        output = self.map([n, -(-height // stride), -(-width // stride), channels])
        scale = 40 / (73 * 40 * math.sqrt(kernel * kernel * depth))
        scales = [scale * float(factor) for factor in self.rng.uniform(0.5, 2, channels)]
        return self.b.conv_2d(
            data, weights, bias, weight_scale=scales, output=output, strides=(stride, stride)
        )

    def depthwise(self, data: int, kernel: int = 3, dead: float = 0.0) -> int:
        depth = self.shape(data)[3]
        weights = self.rng.integers(-127, 128, (1, kernel, kernel, depth)).astype(np.int8)
        weights[..., self.rng.random(depth) < dead] = 0
        bias = self.rng.integers(-3000, 3000, depth).astype(np.int32)
        scales = [1 / (73 * kernel)] * depth
        return self.b.depthwise_conv_2d(
            data, weights, bias, weight_scale=scales, output=self.map(self.shape(data))
        )

    def unary(self, kind: str, data: int) -> int:
        return self.b.unary(kind, data, self.map(self.shape(data)))

    def leaky(self, data: int) -> int:
        output = self.map(self.shape(data))
        return self.b.with_options("LEAKY_RELU", [data], output, "LeakyReluOptions", alpha=0.1)

    def logistic(self, data: int) -> int:
        return self.b.unary("LOGISTIC", data, self.b.tensor(self.shape(data), "int8", 1 / 256, -128))

    def binary(self, kind: str, left: int, right: int) -> int:
        shape = list(np.broadcast_shapes(self.shape(left), self.shape(right)))
        return self.b.binary(kind, left, right, self.map(shape))

    def concat(self, *parts: int) -> int:
        shape = self.shape(parts[0])
        shape[3] = sum(self.shape(part)[3] for part in parts)
        return self.b.with_options("CONCATENATION", parts, self.map(shape), "ConcatenationOptions", axis=-1)

    def split(self, data: int, parts: int) -> list[int]:
        shape = self.shape(data)
        outputs = [self.map([*shape[:3], shape[3] // parts]) for _ in range(parts)]
        inputs = [self.b.constant(3), data]
        self.b.with_options("SPLIT", inputs, outputs, "SplitOptions", numSplits=parts)
        return outputs

    def hard_sigmoid(self, data: int) -> int:
        """relu6(x + 3) / 6, in the three operators that exporters make of it."""
        three = self.b.tensor([], "int8", 3 / 127, data=np.array(127))
        sixth = self.b.tensor([], "int8", 1 / 6 / 127, data=np.array(127))
        gate = self.b.tensor(self.shape(data), "int8", 6 / 255, -128)
        self.b.binary("ADD", data, three, gate, "relu6")
        output = self.b.tensor(self.shape(data), "int8", 1 / 255, -128)
        return self.b.binary("MUL", gate, sixth, output)

    def squeeze_excite(self, data: int) -> int:
        n, _, _, depth = self.shape(data)
        pooled = self.b.mean(data, [1, 2], True, self.map([n, 1, 1, depth]))
        hidden = self.unary("RELU", self.conv(pooled, 4))
        return self.binary("MUL", data, self.hard_sigmoid(self.conv(hidden, depth)))


def _mobilenet_v3(net: Network) -> bytes:
    data = net.b.input([1, 12, 12, 3], SCALE, ZERO_POINT)
    stem = net.unary("HARD_SWISH", net.conv(data, 8, 3, 2))
    expanded = net.unary("HARD_SWISH", net.conv(stem, 24))
    deep = net.unary("HARD_SWISH", net.depthwise(expanded, 5))
    block = net.binary("ADD", stem, net.conv(net.squeeze_excite(deep), 8))
    head = net.unary("HARD_SWISH", net.conv(block, 16))
    pooled = net.b.mean(head, [1, 2], False, net.map([1, 16]))
    return net.b.build(net.b.softmax(pooled, net.b.tensor([1, 16], "int8", 1 / 256, -128)))


def _yolo(net: Network) -> bytes:
    """Two scales, upsampling, concatenation, and three outputs."""
    data = net.b.input([1, 16, 16, 3], SCALE, ZERO_POINT)
    fine = net.leaky(net.conv(net.leaky(net.conv(data, 8, 3, 2)), 12, 3))
    coarse = net.leaky(net.conv(fine, 16, 3, 2))
    up = net.b.with_options(
        "RESIZE_NEAREST_NEIGHBOR",
        [net.leaky(net.conv(coarse, 12)), net.b.constant([8, 8])],
        net.map([1, 8, 8, 12]),
        "ResizeNearestNeighborOptions",
    )
    joined = net.leaky(net.conv(net.concat(up, fine), 16, 3))
    boxes, scores = net.split(net.conv(joined, 12), 2)
    return net.b.build(boxes, net.logistic(scores), net.logistic(net.conv(coarse, 6)))


def _shuffle_net(net: Network) -> bytes:
    """Halves of the channels, many of them constant, go different ways, are joined and shuffled."""
    data = net.b.input([1, 8, 8, 4], SCALE, ZERO_POINT)
    maps = net.conv(data, 16, 3, dead=0.5)
    for _ in range(2):
        left, right = net.split(maps, 2)
        right = net.conv(net.depthwise(net.conv(right, 12, dead=0.6)), 8, dead=0.4)
        joined = net.concat(left, right)
        groups = net.b.reshape(joined, net.map([1, 8, 8, 2, 8]))
        order = net.b.constant([0, 1, 2, 4, 3])
        turned = net.b.operator("TRANSPOSE", [groups, order], net.map([1, 8, 8, 8, 2]))
        maps = net.b.reshape(turned, net.map([1, 8, 8, 16]))
    left, right = net.split(maps, 2)
    output = net.binary("SUB", net.conv(net.depthwise(right, dead=0.6), 5), net.conv(left, 5))
    return net.b.build(output)


NETWORKS = [_mobilenet_v3, _yolo, _shuffle_net]


@pytest.mark.parametrize("build", NETWORKS, ids=lambda build: build.__name__)
@pytest.mark.parametrize("seed", range(2))
def test_small_networks_are_bit_exact(build: object, seed: int, tmp_path: Path) -> None:
    assert callable(build)
    assert_bit_exact(build(Network(seed)), tmp_path, rounds=10, seed=seed, sanitized=seed == 1)


def test_values_stay_within_their_intervals_in_networks_that_split() -> None:
    for seed in range(3):
        data = _shuffle_net(Network(seed))
        graph = parse_graph(data, "small")
        intervals = graph_intervals(graph)
        values = preserved_tensors(data, graph, random_inputs(graph, np.random.default_rng(seed)))
        for index, tensor in values.items():
            channels = tensor.reshape(-1, tensor.shape[-1])
            assert (channels >= intervals[index].low).all()
            assert (channels <= intervals[index].high).all()


def test_moves_take_the_place_of_what_they_move_where_they_can() -> None:
    net = Network(0)
    data = net.unary("RELU", net.b.input([1, 4, 4, 8], SCALE, ZERO_POINT))
    left, right = net.split(data, 2)
    joined = net.concat(left, right)
    twice = net.concat(joined, joined)
    order = net.b.constant([0, 2, 1, 3])
    turned = net.b.operator("TRANSPOSE", [twice, order], net.map([1, 4, 4, 16]))
    graph = parse_graph(net.b.build(turned), "small")
    moves = [MOVEMENT.in_place(Case(graph, operator)) for operator in graph.operators[1:]]
    # Not where the input is needed twice, or bytes would have to move both ways.
    assert moves == [(1,), (0,), (), ()]
    assert check_plan(graph, plan_memory(graph, engine_needs(graph))) == []
