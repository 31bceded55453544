"""The networks of the trainer's zoo are exported without anything that would cost copies on the board."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch

from converter.export import export_onnx
from trainer.config import ModelConfig
from trainer.models import InputShape, InvertedResidualNetwork, build_network
from trainer.models.initialise import initialise

CONVOLUTIONAL = {"Conv", "Clip", "Add", "ReduceMean", "Gemm"}


def exported(model: ModelConfig, shape: InputShape, path: Path, blocks: slice | None = None) -> Counter[str]:
    """Export the network, or it with some of its blocks, checked against torch; count ONNX operators.

    BatchNorm gets statistics that hide nothing.
    """
    network = build_network(model, shape, 10)
    if blocks is not None:
        assert isinstance(network, InvertedResidualNetwork)
        rows = network.table.blocks[blocks]
        table = replace(network.table, stem_channels=rows[0].in_channels, blocks=rows)
        network = InvertedResidualNetwork(table)
    initialise(network, "kaiming_uniform", 0)
    generator = torch.Generator().manual_seed(1)
    for name, buffer in network.named_buffers():
        if buffer.is_floating_point():
            buffer.add_(torch.rand(buffer.shape, generator=generator) * (1 if "var" in name else 0.3))
    export_onnx(network, shape, path)
    return Counter(node.op_type for node in onnx.load(path).graph.node)


# The other blocks are of the same kinds; exporting all of them takes seconds.
@pytest.mark.parametrize(
    ("name", "blocks"), [("mcunet", slice(1, 5)), ("proxyless_mobile", slice(3, 6))], ids=str
)
def test_networks_with_larger_kernels_are_exported_clean(name, blocks, tmp_path):
    model = ModelConfig(name=name, width_multiplier=0.35 if name == "proxyless_mobile" else None)
    operators = exported(model, (3, 32, 32), tmp_path / "model.onnx", blocks)
    assert set(operators) == CONVOLUTIONAL
    assert operators["ReduceMean"] == operators["Gemm"] == 1


def test_mobilenet_v3_is_exported_without_a_hard_sigmoid_which_tflite_micro_lacks(tmp_path):
    model = ModelConfig(name="mobilenet_v3_large", width_multiplier=0.35)
    operators = exported(model, (3, 32, 32), tmp_path / "model.onnx", slice(9, 12))
    assert set(operators) == CONVOLUTIONAL | {"Relu", "HardSwish", "Mul", "Div", "Reshape"}
    assert operators["Clip"] == operators["Mul"] == operators["Div"] == operators["ReduceMean"] - 1 == 2
    assert operators["Reshape"] == 1


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("resnet8", (3, 32, 32), {"Conv": 9, "Relu": 7, "Add": 3, "ReduceMean": 1, "Gemm": 1}),
        ("ds_cnn", (1, 49, 10), {"Conv": 9, "Relu": 9, "ReduceMean": 1, "Gemm": 1}),
    ],
)
def test_mlperf_tiny_networks_are_exported_clean(name, shape, expected, tmp_path):
    assert exported(ModelConfig(name=name), shape, tmp_path / "model.onnx") == expected
