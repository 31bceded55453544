"""What weights start as."""

from __future__ import annotations

import pytest
import torch
from tiny_configs import network
from torch import nn

from trainer.config import ModelConfig, StageConfig
from trainer.models import build_network
from trainer.models.initialise import initialise


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


def test_every_weight_of_a_transformer_is_drawn_anew():
    built = build_network(ModelConfig(name="deit_tiny"), (3, 32, 32), 10)
    for parameter in built.parameters():
        nn.init.constant_(parameter, 7.0)
    initialise(built, "kaiming_uniform", 3)
    assert built.positions.std().item() == pytest.approx(0.02, rel=0.1)
    assert not any((parameter == 7.0).any() for parameter in built.parameters())
    assert built.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_layers_that_no_scheme_is_for_start_as_they_say_themselves():
    norms = [nn.GroupNorm(2, 4), nn.BatchNorm1d(4), nn.LayerNorm(4), nn.InstanceNorm2d(4, affine=True)]
    convolutions = [nn.Conv1d(2, 4, 3), nn.ConvTranspose2d(4, 2, 3)]
    built = nn.Sequential(*norms, *convolutions, nn.PReLU(4), nn.Embedding(3, 4))
    built.register_parameter("gain", nn.Parameter(torch.full((4,), 5.0)))
    for module in built.children():
        for parameter in module.parameters():
            nn.init.constant_(parameter, 7.0)
    global_state = torch.get_rng_state()
    initialise(built, "kaiming_uniform", 3)
    assert torch.equal(torch.get_rng_state(), global_state)
    for norm in norms:
        assert torch.equal(norm.weight, torch.ones(4))
        assert torch.equal(norm.bias, torch.zeros(4))
    for convolution in convolutions:
        assert not convolution.bias.any()
        assert 0 < convolution.weight.std() < 1
    assert torch.equal(built[-2].weight, torch.full((4,), 0.25))
    assert torch.equal(built.gain, torch.full((4,), 5.0))  # as the constructor left it
    embedding = built[-1].weight.clone()
    initialise(built, "kaiming_uniform", 3)
    assert torch.equal(built[-1].weight, embedding)
