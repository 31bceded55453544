"""TinyTL: frozen weights, trained biases and lite residuals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from interruption import train_until
from safetensors.torch import load_file, save_file
from tiny_configs import DATA, MODEL, TRAIN, network, randomise
from torch import nn

import trainer
from common.errors import ConfigError
from trainer.checkpoint import load_network
from trainer.config import ModelConfig
from trainer.methods import METHODS, MethodContext
from trainer.models import InvertedResidualNetwork, build_network
from trainer.models.initialise import initialise
from trainer.models.lite_residual import LiteResidual
from trainer.optim import make_optimizer

LITE = MODEL.model_copy(update={"lite_residuals": True})
TINYTL = TRAIN.model_copy(
    update={"method": "tinytl", "optimizer": "adam", "learning_rate": 0.03, "weight_decay": 0.0, "epochs": 3}
)
STEPS = 8


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    trainer.train(DATA, MODEL, TRAIN.model_copy(update={"epochs": 6}), folder)
    return folder


def train_config(folder):
    return TINYTL.model_copy(update={"initial": folder})


def lite_network(shape=(1, 8, 8), model=LITE) -> InvertedResidualNetwork:
    built = build_network(model, shape, 10)
    assert isinstance(built, InvertedResidualNetwork)
    initialise(built, model.init, 0)
    return built


def is_lite(name: str) -> bool:
    return ".lite." in name


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 7, 5), (1, 2, 2), (1, 33, 20)], ids=str)
@pytest.mark.parametrize("padding", ["tf_same", "symmetric"])
def test_lite_residuals_change_nothing_at_first_and_something_once_trained(shape, padding):
    model = LITE.model_copy(update={"padding": padding})
    plain = network(model.model_copy(update={"lite_residuals": False}), shape)
    randomise(plain)
    lite = lite_network(shape, model)
    missing = lite.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing
    assert all(is_lite(name) for name in missing)
    images = torch.randn(2, *shape)
    with torch.inference_mode():
        expected = plain.eval()(images)
        assert torch.equal(lite.eval()(images), expected)
        randomise(lite)
        assert not torch.equal(lite(images), expected)


def test_a_lite_residual_halves_the_map_and_shrinks_its_kernel():
    def described(size, stride, channels=16):
        branch = LiteResidual(channels, 24, size, stride)
        x = torch.randn(2, channels, *size)
        initialise(branch, "kaiming_uniform", 0)
        assert branch(x).shape == (2, 24, -(-size[0] // stride), -(-size[1] // stride))
        conv = branch.conv.conv
        return conv.kernel_size[0], conv.stride[0], conv.groups, conv.out_channels

    assert described((32, 32), 1) == (5, 1, 2, 16)
    assert described((10, 10), 2) == (5, 2, 2, 16)
    assert described((8, 8), 2) == (3, 2, 2, 16)
    assert described((5, 5), 1) == (1, 1, 2, 16)
    assert described((3, 3), 2) == (1, 1, 2, 16)
    assert described((16, 16), 1, channels=12) == (5, 1, 2, 16)
    assert described((16, 16), 1, channels=27) == (5, 1, 1, 24)


def test_a_lite_residual_of_one_pixel_averages_the_whole_map():
    branch = LiteResidual(4, 4, (3, 3), 1).eval()
    randomise(branch)
    x = torch.randn(1, 4, 3, 3)
    mean = x.mean(dim=(2, 3), keepdim=True)
    expected = branch.project(branch.conv(mean)).expand(1, 4, 3, 3)
    torch.testing.assert_close(branch(x), expected)


def test_only_biases_the_classifier_and_lite_residuals_train(pretrained):
    plain = lite_network()
    method = METHODS.get("tinytl")(MethodContext(plain, LITE, train_config(pretrained), STEPS))
    trained = {name for name, p in method.network.named_parameters() if p.requires_grad}
    last_shifts = {f"blocks.{index}.lite.project.norm.bias" for index in range(5)}
    assert trained == {
        name
        for name, _ in plain.named_parameters()
        if (is_lite(name) or name.endswith(".bias") or name.startswith("classifier"))
        and name not in last_shifts
    }
    optimizer = make_optimizer(method.network, train_config(pretrained))
    optimized = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert optimized == {id(plain.get_parameter(name)) for name in trained}
    assert isinstance(optimizer, torch.optim.Adam)


def test_without_lite_residuals_biases_and_classifier_train(pretrained):
    plain = network()
    METHODS.get("tinytl")(MethodContext(plain, MODEL, train_config(pretrained), STEPS))
    trained = {name for name, p in plain.named_parameters() if p.requires_grad}
    norms = {f"{name}.bias" for name, module in plain.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert trained == norms | {"classifier.weight", "classifier.bias"}


@pytest.fixture(scope="module")
def finetuned(pretrained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finetuned")
    return folder, trainer.train(DATA, LITE, train_config(pretrained), folder)


def test_frozen_weights_and_statistics_are_bit_identical_after_training(pretrained, finetuned):
    folder, result = finetuned
    before, after = (load_file(path / "model.safetensors") for path in (pretrained, folder))
    biases = {name for name in before if name.endswith(".bias") or name.startswith("classifier")}
    for name, tensor in before.items():
        if name in biases:
            assert not torch.equal(tensor, after[name]), f"{name} must learn"
        else:
            assert torch.equal(tensor, after[name]), f"{name} must stay"
    scales = [tensor for name, tensor in after.items() if name.endswith("lite.project.norm.weight")]
    assert len(scales) == 5
    assert all(scale.abs().max() > 0 for scale in scales)
    statistics = [tensor for name, tensor in after.items() if is_lite(name) and name.endswith("running_var")]
    assert all(not torch.equal(tensor, torch.ones_like(tensor)) for tensor in statistics)
    assert result.train_accuracy > 0.6  # 0.55 before


def test_statistics_of_vectors_stay_as_well(tmp_path):
    layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10))
    save_file(layers.state_dict(), tmp_path / "model.safetensors")
    train = train_config(tmp_path)
    method = METHODS.get("tinytl")(MethodContext(layers, MODEL, train))
    method.network.train()
    method.start_epoch(0, make_optimizer(method.network, train))
    method.network(torch.randn(4, 1, 8, 8) + 3)
    assert torch.equal(method.network[2].running_mean, torch.zeros(8))


def test_the_saved_network_has_its_lite_residuals(finetuned):
    folder, result = finetuned
    saved, architecture = load_network(folder)
    assert architecture.model.lite_residuals
    assert sum(isinstance(module, LiteResidual) for module in saved.modules()) == 5
    assert sum(p.numel() for p in saved.parameters()) == architecture.parameters == result.parameters
    assert result.parameters > sum(p.numel() for p in network().parameters())


@pytest.mark.parametrize("workers", [1, 2])
def test_adam_resumes_to_the_same_weights(pretrained, tmp_path, monkeypatch, workers):
    train = train_config(pretrained).model_copy(update={"workers": workers})
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    trainer.train(DATA, LITE, train, whole)
    train_until(2 * STEPS + 1, monkeypatch, DATA, LITE, train, parts)
    trainer.train(DATA, LITE, train, parts, resume=True)
    assert (parts / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_adam_follows_its_definition():
    layer = nn.Linear(3, 2).double()
    config = TINYTL.model_copy(update={"momentum": 0.8})
    optimizer = make_optimizer(layer, config)
    weight = layer.weight.detach().clone()
    first = second = torch.zeros_like(weight)
    for step in range(1, 4):
        gradient = torch.full_like(weight, float(step)) ** 2
        first, second = 0.8 * first + 0.2 * gradient, 0.999 * second + 0.001 * gradient**2
        change = (first / (1 - 0.8**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        weight -= 0.03 * change
        layer.weight.grad = gradient
        optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), weight)


def test_mistakes_are_errors_of_one_line(pretrained):
    with pytest.raises(ConfigError, match=r"tinytl finetunes a trained network: set train\.initial"):
        METHODS.get("tinytl")(MethodContext(network(), MODEL, TINYTL, STEPS))
    with pytest.raises(ConfigError, match=r"netaug widens no model\.lite_residuals"):
        METHODS.get("netaug")(MethodContext(lite_network(), LITE, TRAIN, STEPS))
    with pytest.raises(ConfigError, match=r"takes no model\.lite_residuals"):
        build_network(ModelConfig(name="ds_cnn", lite_residuals=True), (1, 49, 10), 12)


def test_a_network_with_lite_residuals_converts_to_int8(tmp_path):
    from converter.codegen import check_support
    from converter.export import export_onnx
    from converter.quantize import quantize_onnx
    from converter.tflite_reader import load_graph

    small = lite_network(model=LITE.model_copy(update={"stages": LITE.stages[1:2], "last_channels": 0}))
    randomise(small)
    export_onnx(small, (1, 8, 8), tmp_path / "model.onnx")
    samples = np.random.default_rng(0).normal(size=(4, 1, 8, 8)).astype(np.float32)
    quantize_onnx(tmp_path / "model.onnx", samples, tmp_path / "model.tflite")
    graph = load_graph(tmp_path / "model.tflite")
    check_support(graph)
    assert sum(operator.kind == "RESIZE_BILINEAR" for operator in graph.operators) == 2
