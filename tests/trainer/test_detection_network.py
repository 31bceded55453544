"""Backbones, heads, and what the training methods make of a detector."""

from __future__ import annotations

import pytest
import torch
from detection_networks import CLASSES, DETECTOR, MODEL, SIDE, detector
from torch import nn

from common.errors import ConfigError
from trainer.config import DetectorConfig, ExpansionConfig, ModelConfig
from trainer.detection import Detector, make_grid
from trainer.methods.netbooster import contract, expand, set_slope
from trainer.methods.netbooster.expansion import expandable_layers
from trainer.models import build_network, count
from trainer.models.initialise import initialise


@pytest.mark.parametrize(
    ("name", "width", "channels"),
    [
        ("mobilenet_v2", 0.35, (16, 32, 112)),
        ("mobilenet_v2_tiny", None, (16, 32, 112)),
        ("mobilenet_v3_large", 0.35, (16, 40, 56)),
        ("proxyless_mobile", 0.35, (16, 32, 112)),
        ("mcunet", None, (24, 48, 160)),
        ("resnet50", None, (512, 1024, 2048)),
    ],
)
def test_a_detector_takes_the_last_features_at_strides_8_16_and_32(name, width, channels):
    with torch.device("meta"):
        network = build_network(
            ModelConfig(name=name, width_multiplier=width, detector=DETECTOR), (3, 96, 64), 4
        )
        assert isinstance(network, Detector)
        assert network.backbone.channels == channels
        features = network.backbone(torch.empty(2, 3, 96, 64))
        sizes = [(12, 8), (6, 4), (3, 2)]
        assert [f.shape for f in features] == [(2, c, *size) for c, size in zip(channels, sizes, strict=True)]
        outputs = network(torch.empty(2, 3, 96, 64))
    assert outputs.shape == (2, 3 * (96 + 24 + 6), 9)
    assert outputs.shape[1] == make_grid(DETECTOR, 96, 64).predictions


@pytest.mark.parametrize("name", ["deit_tiny", "resnet8", "ds_cnn"])
def test_a_network_without_such_features_is_refused_by_name(name):
    with pytest.raises(ConfigError, match=rf"model\.detector.*'{name}'.*strides? "):
        build_network(ModelConfig(name=name, detector=DETECTOR), (3, 64, 64), 4)


def test_images_whose_sides_are_no_multiples_of_32_are_refused():
    with pytest.raises(ConfigError, match=r"do not tile 96x80: set data\.resolution to a multiple of 32"):
        build_network(ModelConfig(detector=DETECTOR), (3, 96, 80), 4)


def test_all_the_backbone_keeps_are_layers_with_the_names_of_the_classification_network():
    plain = ModelConfig(name="mobilenet_v2_tiny")
    names = build_network(plain, (3, 64, 64), 10).state_dict().keys()
    network = build_network(plain.model_copy(update={"detector": DETECTOR}), (3, 64, 64), 4)
    kept = {name for name in network.state_dict() if name.startswith("backbone.")}
    assert {name.removeprefix("backbone.") for name in kept} == {
        name for name in names if not name.startswith(("last.", "classifier."))
    }


def test_the_head_is_yolov3s_with_separable_convolutions():
    network = build_network(
        ModelConfig(name="mobilenet_v2", width_multiplier=0.35, detector=DetectorConfig()), (3, 64, 64), 20
    )
    convs = [
        module
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and not name.startswith("backbone.")
    ]
    spatial = [conv for conv in convs if conv.kernel_size == (3, 3)]
    assert len(spatial) == 3 * 3
    assert all(conv.groups == conv.in_channels == conv.out_channels for conv in spatial)
    others = [(conv.in_channels, conv.out_channels) for conv in convs if conv.kernel_size == (1, 1)]
    assert len(others) == len(convs) - len(spatial)
    part = [(256, 512), (512, 256), (256, 512), (512, 256), (256, 512), (512, 75), (112, 256)]
    for pair in part:
        assert pair in others
    assert (256, 128) in others  # handed on from stride 32 to 16
    assert (128 + 32, 128) in others  # joined there with the backbone's 32 channels
    assert (128 + 16, 128) in others
    assert sum(isinstance(module, nn.LeakyReLU) for module in network.modules()) == 3 * 9 + 2


def test_images_of_other_sizes_pass_as_through_a_network_built_for_them():
    network = detector().eval()
    larger = build_network(MODEL, (3, 2 * SIDE, SIDE), CLASSES)
    larger.load_state_dict(network.state_dict())
    images = torch.randn(2, 3, 2 * SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(network(images), larger.eval()(images))


def test_predictions_stand_where_the_grid_says():
    network = detector().eval()
    maps = []
    for layer in network.predict:
        layer.register_forward_hook(lambda _layer, _inputs, output: maps.append(output))
    with torch.no_grad():
        outputs = network(torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0)))[0]
    grid = make_grid(DETECTOR, 64, 96)
    for level, values in enumerate(reversed(maps)):
        first = grid.starts[level]
        for index in range(first, first + values[0].numel() // outputs.shape[1], 5):
            column, row = (int(value) for value in grid.cells[index])
            anchor = (index - first) % 3
            width = outputs.shape[1]
            assert torch.equal(outputs[index], values[0, anchor * width : (anchor + 1) * width, row, column])
            assert grid.anchors[index].tolist() == list(map(float, DETECTOR.anchors[level][anchor]))
            assert grid.strides[index] == 8 << level


def test_netbooster_expands_the_backbone_alone_and_contracts_to_the_same_detector():
    network = detector()
    layers = expandable_layers(network)
    assert layers
    assert all(layer.startswith("backbone.blocks.") and layer.endswith(".expand.conv") for layer in layers)
    giant = expand(network, ExpansionConfig())
    initialise(giant, "kaiming_uniform", 0)
    set_slope(giant, 1.0)
    images = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    giant.train()(images)
    tiny = contract(giant, images)
    assert tiny.state_dict().keys() == network.state_dict().keys()
    with torch.no_grad():
        assert torch.allclose(tiny(images), giant.eval()(images), atol=1e-5)
    assert count(tiny, (3, SIDE, SIDE)) == count(network, (3, SIDE, SIDE))
