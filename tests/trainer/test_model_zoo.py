from __future__ import annotations

import math

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_data import shared_data
from tiny_configs import MODEL, network
from torch import nn
from torch.nn import functional

from common.errors import ConfigError
from converter.costs import graph_macs
from converter.tflite_reader import load_graph
from trainer.config import ModelConfig
from trainer.models import (
    MODELS,
    Cost,
    InputShape,
    InvertedResidualNetwork,
    build_network,
    count,
    register_model,
)
from trainer.models.blocks import BlockRow, ConvNorm, SqueezeExcite, same_padding
from trainer.models.resnet import MaxPool

V3 = ModelConfig(name="mobilenet_v3_large", width_multiplier=0.35)
PROXYLESS = ModelConfig(name="proxyless_mobile")
MCUNET = ModelConfig(name="mcunet")
NARROW = {"width_multiplier": 0.35}


def on_meta(model: ModelConfig, shape: InputShape, classes: int = 1000) -> nn.Module:
    """The network without memory for its weights."""
    with torch.device("meta"):
        return build_network(model, shape, classes)


def blocks_of(model: ModelConfig, side: int) -> tuple[BlockRow, ...]:
    built = on_meta(model, (3, side, side))
    assert isinstance(built, InvertedResidualNetwork)
    rows = built.table.blocks
    assert [block.shortcut for block in built.inverted_blocks] == [row.shortcut for row in rows]
    return rows


# Printed are the millions of parameters and MACs in the papers: of Cai et al., ICLR 2022 (tables 1 and 2),
# Howard et al. (ICCV 2019), torchvision's and timm's documentation; the exact counts are the authors' code's.
@pytest.mark.parametrize(
    ("model", "side", "cost", "printed"),
    [
        (ModelConfig(name="mobilenet_v2_tiny"), 144, Cost(750_280, 23_499_152), ("0.75", "23.5")),
        (ModelConfig(width_multiplier=0.35), 160, Cost(1_677_128, 30_874_800), ("1.7", "30.9")),
        # Papers print 1.95 million parameters, without BatchNorm's.
        (ModelConfig(width_multiplier=0.5), 160, Cost(1_968_680, 50_184_000), ("2.0", "50.2")),
        (ModelConfig(), 160, Cost(3_504_872, 154_083_200), ("3.5", "154.1")),
        (MCUNET, 176, Cost(737_408, 81_785_520), ("0.74", "81.8")),
        (PROXYLESS.model_copy(update=NARROW), 160, Cost(1_781_344, 35_716_800), ("1.8", "35.7")),
        (PROXYLESS, 160, Cost(4_080_512, 164_110_400), ("4.1", "164.1")),
        # The NetAug paper prints 2.2 million parameters; its code has 2.11. Its 19.6 million MACs count the
        # global pooling.
        (V3, 160, Cost(2_109_840, 19_495_688), ("2.1", "19.5")),
        (ModelConfig(name="mobilenet_v3_large"), 224, Cost(5_483_032, 216_589_760), ("5.48", "217")),
        (ModelConfig(name="resnet50"), 224, Cost(25_557_032, 4_089_184_256), ("25.557", "4089")),
    ],
)
@pytest.mark.parametrize("padding", ["tf_same", "symmetric"])
def test_published_networks_have_their_published_size(model, side, cost, printed, padding):
    shape = (3, side, side)
    assert count(on_meta(model.model_copy(update={"padding": padding}), shape), shape) == cost
    for value, text in zip((cost.parameters, cost.macs), printed, strict=True):
        assert f"{value / 1e6:.{len(text.partition('.')[2])}f}" == text


def test_deit_has_its_published_size():
    shape = (3, 224, 224)
    cost = count(on_meta(ModelConfig(name="deit_tiny"), shape), shape)
    assert cost.parameters == 5_717_416
    tokens, width = 197, 192
    attention = 2 * tokens**2 * width
    linear = tokens * width * (3 * width + width + 8 * width)
    assert cost.macs == 12 * (attention + linear) + 196 * 768 * width + width * 1000
    # Published are 1.26 G, with the operations of norms and softmax.
    assert cost.macs == pytest.approx(1.26e9, rel=0.006)


def test_counts_leave_the_network_untouched():
    built = network()
    before = {name: tensor.clone() for name, tensor in built.state_dict().items()}
    count(built, (1, 8, 8))
    assert built.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in built.state_dict().items())


@pytest.mark.parametrize(
    ("model", "stages"),
    [
        (ModelConfig(name="mobilenet_v2_tiny"), (1, 2, 3, 4, 3, 3, 1)),
        (MCUNET, (1, 4, 3, 3, 3, 3, 1)),
        (PROXYLESS, (1, 2, 4, 4, 4, 4, 1)),
        (PROXYLESS.model_copy(update=NARROW), (1, 2, 4, 4, 4, 4, 1)),
    ],
)
def test_only_later_blocks_of_a_stage_have_a_shortcut(model, stages):
    expected = [blocks > 0 for stage in stages for blocks in range(stage)]
    assert [row.shortcut for row in blocks_of(model, 160)] == expected


def test_mobilenet_v3_also_has_one_around_its_first_block():
    stages = ((True,), (False, True), (False, True, True), (False, True, True, True), (False, True))
    expected = [shortcut for stage in (*stages, (False, True, True)) for shortcut in stage]
    for model in (V3, ModelConfig(name="mobilenet_v3_large")):
        assert [row.shortcut for row in blocks_of(model, 160)] == expected


def test_proxyless_has_none_where_only_rounding_makes_the_widths_equal():
    (row,) = [
        row
        for row in blocks_of(PROXYLESS.model_copy(update=NARROW), 160)
        if (row.in_channels, row.hidden, row.out_channels) == (32, 192, 32)
    ]
    assert (row.stride, row.shortcut) == (1, False)


MCUNET_BLOCKS = """
    16-16-8k3s1 8-24-16k7s2 16-80-16k3s1 16-80-16k7s1 16-64-16k5s1 16-80-24k5s2 24-120-24k5s1 24-120-24k5s1
    24-120-40k3s2 40-240-40k7s1 40-160-40k5s1 40-200-48k5s1 48-240-48k7s1 48-240-48k3s1 48-288-96k3s2
    96-480-96k7s1 96-384-96k3s1 96-480-160k7s1
"""
PROXYLESS_BLOCKS = """
    16-16-8k3s1 8-24-16k5s2 16-48-16k3s1 16-48-16k7s2 16-48-16k3s1 16-48-16k5s1 16-48-16k5s1 16-96-32k7s2
    32-96-32k5s1 32-96-32k5s1 32-96-32k5s1 32-192-32k5s1 32-96-32k5s1 32-96-32k5s1 32-96-32k5s1
    32-192-64k7s2 64-384-64k7s1 64-192-64k7s1 64-192-64k7s1 64-384-112k7s1
"""
V3_BLOCKS = """
    8-8-8k3s1 8-24-8k3s2 8-24-8k3s1 8-24-16k5s2+16 16-40-16k5s1+16 16-40-16k5s1+16 16-88-32k3s2h
    32-72-32k3s1h 32-64-32k3s1h 32-64-32k3s1h 32-168-40k3s1h+40 40-232-40k3s1h+56 40-232-56k5s2h+56
    56-336-56k5s1h+88 56-336-56k5s1h+88
"""


@pytest.mark.parametrize(
    ("model", "blocks"),
    [(MCUNET, MCUNET_BLOCKS), (PROXYLESS.model_copy(update=NARROW), PROXYLESS_BLOCKS), (V3, V3_BLOCKS)],
)
def test_the_blocks_are_those_of_the_authors(model, blocks):
    """in-hidden-out, kernel, stride, h for hard swish, + squeeze width."""
    spelt = [
        f"{row.in_channels}-{row.hidden}-{row.out_channels}k{row.kernel}s{row.stride}"
        + ("h" if row.activation == "hard_swish" else "")
        + (f"+{row.squeeze}" if row.squeeze else "")
        for row in blocks_of(model, 176)
    ]
    assert spelt == blocks.split()


def test_mobilenet_v3_uses_relu_in_early_blocks_and_hard_swish_around_them():
    built = on_meta(V3, (3, 160, 160))
    assert isinstance(built, InvertedResidualNetwork)
    kinds = [type(block.depthwise.act) for block in built.inverted_blocks]
    assert kinds == [nn.ReLU] * 6 + [nn.Hardswish] * 9
    assert [type(act) for act in (built.stem.act, built.last.act, built.head_act)] == [nn.Hardswish] * 3
    assert (built.table.last_channels, built.table.head_channels) == (336, 1280)


def test_squeeze_and_excitation_scales_channels_by_their_gate():
    layer = SqueezeExcite(6, 4).double()
    x = torch.randn(2, 6, 3, 5, dtype=torch.float64)
    means = x.mean(dim=(2, 3))
    inner = (means @ layer.reduce.weight[:, :, 0, 0].T + layer.reduce.bias).clamp(min=0)
    gate = ((inner @ layer.expand.weight[:, :, 0, 0].T + layer.expand.bias) / 6 + 0.5).clamp(0, 1)
    torch.testing.assert_close(layer(x), x * gate[:, :, None, None])


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


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [("mobilnet_v2", "mobilenet_v2"), ("mcu_net", "mcunet"), ("resnet-50", "resnet50"), ("dscnn", "ds_cnn")],
)
def test_an_unknown_model_is_answered_with_the_nearest(wrong, nearest):
    with pytest.raises(ConfigError, match=f"unknown model '{wrong}': did you mean '{nearest}'"):
        build_network(ModelConfig(name=wrong), (1, 8, 8), 10)


def test_users_register_models_of_their_own(monkeypatch):
    monkeypatch.setattr(MODELS, "_values", dict(MODELS._values))

    @register_model("users_own")
    def users_own(config: ModelConfig, input_shape: InputShape, classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), classes))

    built = build_network(ModelConfig(name="users_own"), (1, 4, 4), 3)
    assert count(built, (1, 4, 4)) == Cost(parameters=51, macs=48)
    assert callable(users_own)
    with pytest.raises(ValueError, match="'users_own' is registered already"):
        register_model("users_own")(users_own)


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("resnet50", {"width_multiplier": 0.5}),
        ("resnet8", {"stem_stride": 1}),
        ("ds_cnn", {"padding": "symmetric"}),
        ("deit_tiny", {"last_channels": 64}),
    ],
)
def test_settings_that_a_network_has_no_use_for_are_refused(name, setting):
    (key,) = setting
    with pytest.raises(ConfigError, match=f"model '{name}' has a fixed .* takes no model.{key}: remove it"):
        build_network(ModelConfig(name=name, **setting), (3, 32, 32), 10)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("resnet50", (3, 8, 8), "block 8 would halve a map of 1x1"),
        ("resnet8", (3, 2, 2), "block 3 would halve a map of 1x1"),
        ("deit_tiny", (3, 40, 32), "do not tile 40x32"),
        ("ds_cnn", (1, 49, 1), "2 or more frames and coefficients"),
    ],
)
def test_images_of_unfit_sizes_are_refused(name, shape, message):
    with pytest.raises(ConfigError, match=message):
        build_network(ModelConfig(name=name), shape, 10)


@pytest.mark.parametrize(
    ("file", "name", "shape", "classes"),
    [
        ("pretrainedResnet_quant.tflite", "resnet8", (3, 32, 32), 10),
        ("kws_ref_model.tflite", "ds_cnn", (1, 49, 10), 12),
    ],
)
def test_mlperf_tiny_networks_are_the_public_ones(file, name, shape, classes):
    graph = load_graph(shared_data("models", file))
    kinds = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    theirs = [
        tuple(graph.tensors[index].shape for index in (operator.inputs[1], operator.outputs[0]))
        for operator in graph.operators
        if operator.kind in kinds
    ]
    built = on_meta(ModelConfig(name=name), shape, classes)
    layers = [module for module in built.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    ours = []

    def note(module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        weight = module.weight.movedim(1, -1)  # channels last, as in TFLite
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            weight = weight.movedim(0, -1).squeeze(-2)[None]
        ours.append((tuple(weight.shape), tuple(output.movedim(1, -1).shape)))

    for layer in layers:
        layer.register_forward_hook(note)
    built.eval()(torch.empty(1, *shape, device="meta"))
    assert sorted(ours) == sorted(theirs)
    assert count(built, shape).macs == graph_macs(graph)
    constants = [graph.tensors[i].elements for o in graph.operators if o.kind in kinds for i in o.inputs[1:3]]
    deployed = sum(layer.weight.numel() + layer.weight.shape[0] for layer in layers)
    assert deployed == sum(constants)


@pytest.mark.parametrize("padding", ["tf_same", "symmetric"])
def test_resnet8_adds_a_projected_shortcut_only_where_the_shape_changes(padding):
    built = build_network(ModelConfig(name="resnet8", padding=padding), (3, 9, 12), 10).eval()
    assert [type(block.shortcut) for block in built.blocks] == [nn.Identity, nn.Conv2d, nn.Conv2d]
    assert built(torch.zeros(2, 3, 9, 12)).shape == (2, 10)


@pytest.mark.parametrize(("padding", "side"), [("tf_same", 33), ("tf_same", 40), ("symmetric", 33)])
def test_maximum_pooling_ignores_its_padding(padding, side):
    x = torch.rand(2, 3, side, 31)
    layer = MaxPool((side, 31), padding)
    rows, columns = (same_padding(length, 3, 2) if padding == "tf_same" else (1, 1) for length in (side, 31))
    padded = functional.pad(x, (*columns, *rows), value=-torch.inf)
    assert torch.equal(layer(x), functional.max_pool2d(padded, 3, 2))
    assert layer(x).shape[2:] == layer.out_size


def test_resnet50_projects_the_first_shortcut_of_each_stage():
    built = on_meta(ModelConfig(name="resnet50"), (3, 64, 64))
    expected = [index == 0 for blocks in (3, 4, 6, 3) for index in range(blocks)]
    assert [isinstance(block.shortcut, ConvNorm) for block in built.blocks] == expected
