from __future__ import annotations

import math

import pytest
import torch
from tiny_configs import network
from torch import nn

from common.errors import ConfigError
from trainer.config import ExpansionConfig, ModelConfig
from trainer.methods.netbooster import ExpansionError, expand, expandable_layers
from trainer.methods.netbooster.expansion import ExpandedLayer, chosen
from trainer.methods.netbooster.homotopy import DecayingActivation, set_slope, slope_at
from trainer.models import InvertedResidualNetwork, build_network, count

TINY, SHAPE = ModelConfig(name="mobilenet_v2_tiny"), (3, 144, 144)


def cost_with_norms(built: nn.Module, shape: tuple[int, int, int]) -> tuple[int, int]:
    """Parameters, and FLOPs as table 5 of NetBooster counts them: MACs + 5 per output of a BatchNorm."""
    outputs = 0

    def add(_module: nn.Module, _inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal outputs
        outputs += math.prod(output.shape)

    with torch.device("meta"):
        hooks = [m.register_forward_hook(add) for m in built.modules() if isinstance(m, nn.BatchNorm2d)]
        built.to("meta").eval()(torch.empty(1, *shape))
    for hook in hooks:
        hook.remove()
    cost = count(built, shape)
    return cost.parameters, cost.macs + 5 * outputs


@pytest.mark.parametrize(
    ("placement", "parameters", "mega_flops"),
    [
        (None, 750_280, 29.400),
        ("first", 829_912, 65.022),
        ("middle", 931_144, 49.602),
        ("last", 1_250_392, 51.231),
        ("uniform", 998_200, 63.924),
    ],
)
def test_giants_have_the_papers_size(placement, parameters, mega_flops):
    built = build_network(TINY, SHAPE, 1000)
    if placement:
        built = expand(built, ExpansionConfig(placement=placement))
    counted, flops = cost_with_norms(built, SHAPE)
    assert counted == parameters
    assert round(flops / 1e6, 3) == mega_flops


@pytest.mark.parametrize(
    ("multiplier", "parameters", "mega_macs"),
    [(0.35, 1_925_048, 67.8), (0.5, 2_467_832, 113.7), (1.0, 5_468_312, 381.0)],
)
def test_wider_giants_have_their_size(multiplier, parameters, mega_macs):
    shape = (3, 160, 160)
    built = build_network(ModelConfig(width_multiplier=multiplier), shape, 1000)
    cost = count(expand(built, ExpansionConfig()), shape)
    assert cost.parameters == parameters
    assert round(cost.macs / 1e6, 1) == mega_macs


def test_candidates_are_the_expansions_of_inverted_residuals():
    built = build_network(TINY, SHAPE, 1000)
    assert isinstance(built, InvertedResidualNetwork)
    expected = [f"blocks.{i}.expand.conv" for i, b in enumerate(built.inverted_blocks) if b.expand]
    assert expandable_layers(built) == expected
    assert len(expected) == 16


@pytest.mark.parametrize(
    ("placement", "indices"),
    [
        ("uniform", list(range(0, 16, 2))),
        ("first", list(range(8))),
        ("middle", list(range(4, 12))),
        ("last", list(range(8, 16))),
    ],
)
def test_half_of_the_candidates_are_chosen(placement, indices):
    assert chosen(16, 0.5, placement) == indices


def test_an_odd_number_of_candidates_is_rounded_down_but_not_to_none():
    assert chosen(17, 0.5, "uniform") == [0, 2, 4, 6, 8, 10, 12, 14]
    assert chosen(3, 0.1, "last") == [2]
    assert chosen(3, 1.0, "middle") == [0, 1, 2]


def test_the_inserted_block_is_an_inverted_residual_of_the_layers_input_width():
    giant = expand(network(), ExpansionConfig(fraction=1.0))
    block = giant.get_submodule("blocks.1.expand.conv")
    assert isinstance(block, ExpandedLayer)
    convs = [layer for layer in block if isinstance(layer, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.groups) for c in convs] == [
        (8, 48, 1),
        (48, 48, 48),
        (48, 24, 1),
    ]
    kinds = (nn.Conv2d, nn.BatchNorm2d, DecayingActivation)
    assert [type(layer) for layer in block] == [*kinds, *kinds, nn.Conv2d]
    assert all(c.kernel_size == (1, 1) and c.stride == (1, 1) and c.bias is None for c in convs)


def test_expansion_leaves_the_network_untouched():
    built = network()
    before = {name: tensor.clone() for name, tensor in built.state_dict().items()}
    expand(built, ExpansionConfig())
    assert all(torch.equal(tensor, before[name]) for name, tensor in built.state_dict().items())
    assert not any(isinstance(module, ExpandedLayer) for module in built.modules())


def test_all_else_in_the_giant_has_the_networks_weights_and_names():
    built = network()
    giant = expand(built, ExpansionConfig()).state_dict()
    replaced = {name for name in built.state_dict() if name not in giant}
    assert replaced == {"blocks.1.expand.conv.weight", "blocks.3.expand.conv.weight"}
    kept = {name: tensor for name, tensor in built.state_dict().items() if name not in replaced}
    assert all(torch.equal(tensor, giant[name]) for name, tensor in kept.items())


@pytest.mark.parametrize(
    ("layers", "candidates", "message"),
    [
        ([nn.Conv2d(2, 4, 1, bias=False), nn.ReLU()], ["0"], "'0' has no bias, and no BatchNorm2d follows"),
        ([nn.Conv2d(2, 4, 3, dilation=2), nn.ReLU()], ["0"], "'0' has dilation (2, 2)"),
        ([nn.Conv2d(2, 4, 3, padding="same"), nn.ReLU()], ["0"], "padding 'same'"),
        ([nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"), nn.ReLU()], ["0"], "reflect"),
        ([nn.Conv2d(2, 4, 1), nn.Tanh()], ["0"], "the network of layer '0' has no activation"),
        ([nn.Conv1d(2, 4, 1), nn.ReLU()], ["0"], "'0' is a Conv1d; only Conv2d and Linear"),
        ([nn.Conv2d(2, 4, 1), nn.ReLU()], ["7"], "no layer '7'"),
        ([nn.Conv2d(2, 4, 1), nn.ReLU()], None, "found no layer to expand"),
    ],
)
def test_what_cannot_be_restored_is_refused_with_its_name(layers, candidates, message):
    with pytest.raises(ExpansionError) as error:
        expand(nn.Sequential(*layers), ExpansionConfig(layers=candidates))
    assert message in str(error.value)
    assert isinstance(error.value, ConfigError)


X = torch.linspace(-10, 20, 601, dtype=torch.float64)


@pytest.mark.parametrize("activation", [nn.ReLU(True), nn.ReLU6(True), nn.Hardswish(True), nn.GELU()])
def test_activations_become_exactly_the_identity(activation):
    decaying = DecayingActivation(activation).double()
    x = X.clone()
    assert torch.equal(decaying(x), activation(X.clone()))
    set_slope(decaying, 1.0)
    assert torch.equal(decaying(x), X)
    assert torch.equal(decaying.float()(X.float()), X.float())
    assert torch.equal(x, X), "the input is left alone"


@pytest.mark.parametrize("slope", [0.0, 0.25, 0.5, 0.9, 1.0])
def test_relu_decays_as_in_the_paper_and_relu6_bends_at_its_ends(slope):
    relu, relu6 = DecayingActivation(nn.ReLU()).double(), DecayingActivation(nn.ReLU6()).double()
    set_slope(nn.ModuleList([relu, relu6]), slope)
    torch.testing.assert_close(relu(X), torch.maximum(slope * X, X), rtol=0, atol=1e-14)
    expected = torch.where(X < 0, slope * X, torch.where(X > 6, 6 + slope * (X - 6), X))
    torch.testing.assert_close(relu6(X), expected, rtol=0, atol=1e-14)


def test_the_slope_is_a_saved_buffer_that_is_not_learned():
    decaying = DecayingActivation(nn.ReLU())
    assert list(decaying.state_dict()) == ["slope"]
    assert not list(decaying.parameters())


def test_the_slope_is_computed_from_the_step_and_ends_exactly_at_one():
    slopes = [slope_at(step, 7) for step in range(-3, 12)]
    assert slopes == [0.0] * 3 + [step / 7 for step in range(7)] + [1.0] * 5
    assert slope_at(-1, 0) == 0.0
    assert slope_at(0, 0) == 1.0
