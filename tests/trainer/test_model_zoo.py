from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_configs import MODEL, network
from torch import nn

from common.errors import ConfigError
from trainer.config import ModelConfig, StageConfig
from trainer.models import InvertedResidualNetwork, build_network, count
from trainer.models.blocks import ConvNorm
from trainer.models.initialise import initialise


@pytest.mark.parametrize(
    ("model", "side", "parameters", "macs"),
    [
        (ModelConfig(name="mobilenet_v2_tiny"), 144, 750_280, 23_499_152),
        (ModelConfig(width_multiplier=0.35), 160, 1_677_128, 30_874_800),
        (ModelConfig(width_multiplier=0.5), 160, 1_968_680, 50_184_000),
        (ModelConfig(), 160, 3_504_872, 154_083_200),
    ],
)
@pytest.mark.parametrize("padding", ["tf_same", "symmetric"])
def test_published_networks_have_their_published_size(model, side, parameters, macs, padding):
    model = model.model_copy(update={"padding": padding})
    cost = count(build_network(model, (3, side, side), 1000), (3, side, side))
    assert (cost.parameters, cost.macs) == (parameters, macs)


def test_counts_leave_the_network_untouched():
    built = network()
    before = {name: tensor.clone() for name, tensor in built.state_dict().items()}
    count(built, (1, 8, 8))
    assert built.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in built.state_dict().items())


def test_only_later_blocks_of_a_stage_have_a_shortcut():
    built = build_network(ModelConfig(name="mobilenet_v2_tiny"), (3, 144, 144), 1000)
    assert isinstance(built, InvertedResidualNetwork)
    expected = [blocks > 0 for stage in (1, 2, 3, 4, 3, 3, 1) for blocks in range(stage)]
    assert [block.shortcut for block in built.inverted_blocks] == expected


def test_a_first_block_of_equal_widths_has_no_shortcut():
    third_stage = network().inverted_blocks[3]
    assert third_stage.project.conv.out_channels == 12
    assert third_stage.depthwise.conv.stride == (1, 1)
    assert not third_stage.shortcut
    assert network().inverted_blocks[4].shortcut


def test_mobilenet_widths_are_rounded_to_eight():
    built = build_network(ModelConfig(width_multiplier=0.35), (3, 160, 160), 1000)
    assert isinstance(built, InvertedResidualNetwork)
    outs = sorted({row.out_channels for row in built.table.blocks})
    assert (built.table.stem_channels, outs) == (16, [8, 16, 24, 32, 56, 112])


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 17),
    width=st.integers(1, 17),
    kernel=st.sampled_from([1, 3, 5, 7]),
    stride=st.sampled_from([1, 2]),
)
def test_same_padding_is_that_of_onnx(height, width, kernel, stride):
    layer = ConvNorm(2, 3, (height, width), kernel=kernel, stride=stride, activation=None)
    layer.norm.eps = 0.0
    layer.eval()
    image = torch.randn(1, 2, height, width)
    with torch.inference_mode():
        ours = layer(image).numpy()
    node = onnx.helper.make_node(
        "Conv",
        ["x", "w"],
        ["y"],
        auto_pad="SAME_UPPER",
        strides=[stride, stride],
        kernel_shape=[kernel, kernel],
    )
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        "conv",
        [value("x", 1, list(image.shape)), value("w", 1, [3, 2, kernel, kernel])],
        [value("y", 1, None)],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {"x": image.numpy(), "w": layer.conv.weight.detach().numpy()})
    assert ours.shape == theirs.shape
    assert ours.shape[2:] == layer.out_size
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(side=st.integers(1, 17), kernel=st.sampled_from([1, 3, 5, 7]), stride=st.sampled_from([1, 2]))
def test_symmetric_padding_is_that_of_pytorch(side, kernel, stride):
    layer = ConvNorm(2, 3, (side, side), kernel=kernel, stride=stride, padding="symmetric")
    assert layer.conv.padding == (kernel // 2, kernel // 2)
    assert isinstance(layer.pad, nn.Identity)
    assert layer(torch.randn(2, 2, side, side + 1)).shape[2] == layer.out_size[0]


@settings(max_examples=25, deadline=None)
@given(
    channels=st.sampled_from([1, 3]),
    height=st.integers(5, 40),
    width=st.integers(5, 40),
    last=st.integers(0, 20),
    padding=st.sampled_from(["tf_same", "symmetric"]),
)
def test_declared_networks_take_any_image(channels, height, width, last, padding):
    model = MODEL.model_copy(update={"last_channels": last, "padding": padding})
    built = build_network(model, (channels, height, width), 7).eval()
    assert built(torch.zeros(2, channels, height, width)).shape == (2, 7)


def test_an_image_too_small_for_the_strides_is_refused():
    with pytest.raises(ConfigError, match=r"too deep for images of 8x8: block 7 would halve a map of 1x1"):
        build_network(ModelConfig(), (1, 8, 8), 10)


def test_an_unknown_model_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="unknown model 'mobilnet_v2': did you mean 'mobilenet_v2'"):
        build_network(ModelConfig(name="mobilnet_v2"), (1, 8, 8), 10)


@pytest.mark.parametrize(
    ("scheme", "deviation"),
    [
        ("kaiming_uniform", lambda fan_in, _fan_out: (1 / fan_in) ** 0.5 / 3**0.5),
        ("he_fan_out", lambda _fan_in, fan_out: (2 / fan_out) ** 0.5),
    ],
)
def test_initial_weights_have_the_deviation_of_their_scheme(scheme, deviation):
    model = ModelConfig(stages=(StageConfig(expand_ratio=6, channels=64),), last_channels=256)
    built = network(model, (3, 16, 16))
    initialise(built, scheme, 7)
    block = built.inverted_blocks[0]
    assert block.expand is not None
    assert block.expand.conv.weight.std().item() == pytest.approx(deviation(32, 192), rel=0.05)
    assert block.depthwise.conv.weight.std().item() == pytest.approx(deviation(9, 9), rel=0.05)
    assert built.classifier.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not built.classifier.bias.any()
    again = network(model, (3, 16, 16))
    initialise(again, scheme, 7)
    assert all(torch.equal(a, b) for a, b in zip(built.parameters(), again.parameters(), strict=True))
