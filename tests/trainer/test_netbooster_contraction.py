from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_configs import MODEL, network, randomise
from torch import nn
from torch.nn import functional

from common.errors import UserError
from trainer.config import ExpansionConfig, ModelConfig
from trainer.methods.netbooster import ContractionError, contract, expand, set_slope
from trainer.methods.netbooster.contraction import AffineConv, as_affine, compose, fold
from trainer.methods.netbooster.expansion import ExpandedLayer
from trainer.models import MODELS, build_network, count

BLOCKS = ["inverted_residual", "basic", "bottleneck"]


def linear_giant(built: nn.Module, **config: object) -> nn.Module:
    """A giant with values that hide nothing, whose activations have decayed."""
    giant = expand(built, ExpansionConfig.model_validate(config))
    randomise(giant)
    set_slope(giant, 1.0)
    return giant.eval()


def assert_same_outputs(giant: nn.Module, tiny: nn.Module, images: torch.Tensor) -> None:
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-10)):
        with torch.inference_mode():
            expected = giant.to(dtype)(images.to(dtype))
            got = (tiny if dtype is torch.float32 else contract(giant)).to(dtype)(images.to(dtype))
        assert expected.std() > 1e-3, "a constant output would show nothing"
        scale = expected.abs().amax().item()
        assert (got - expected).abs().amax().item() <= tolerance * scale
        if expected.ndim == 4:
            corners = (slice(None), slice(None), [0, 0, -1, -1], [0, -1, 0, -1])
            assert (got[corners] - expected[corners]).abs().amax().item() <= tolerance * scale


RESNETS = {"resnet8": ["blocks.0.first.conv", "blocks.2.second.conv"], "resnet50": ["blocks.0.conv.conv"]}
SHAPES = {"deit_tiny": (3, 16, 32)}
ZOO = [(name, "tf_same") for name in MODELS.names()]


@pytest.mark.parametrize(("name", "padding"), [*ZOO, ("mobilenet_v2", "symmetric"), ("mcunet", "symmetric")])
def test_every_model_is_contracted_to_itself(name, padding):
    model, shape = ModelConfig(name=name, padding=padding), SHAPES.get(name, (3, 33, 41))
    built = build_network(model, shape, 10)
    giant = linear_giant(built, layers=RESNETS.get(name), ratio=2 if name in RESNETS else 6)
    tiny = contract(giant)
    assert list(tiny.state_dict()) == list(built.state_dict())
    assert count(tiny, shape) == count(built, shape)
    assert repr(tiny) == repr(built)
    assert not tiny.training
    built.load_state_dict(tiny.state_dict())
    assert_same_outputs(giant, tiny, torch.randn(1, *shape))


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("ratio", [1, 2, 8])
def test_all_blocks_and_ratios_are_contracted(block, ratio):
    giant = linear_giant(network(shape=(1, 9, 7)), block=block, ratio=ratio, fraction=1.0)
    assert_same_outputs(giant, contract(giant), torch.randn(2, 1, 9, 7))


CONVS = st.builds(
    nn.Conv2d,
    st.just(4),
    st.just(8),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    groups=st.sampled_from([1, 2, 4]),
    bias=st.booleans(),
)


@settings(max_examples=40, deadline=None)
@given(conv=CONVS, block=st.sampled_from(BLOCKS))
def test_convolutions_of_any_shape_are_contracted_exactly_also_at_borders(conv, block):
    built = nn.Sequential(conv, nn.BatchNorm2d(8), nn.Hardswish())
    giant = linear_giant(built, block=block, ratio=2, layers=["0"])
    tiny = contract(giant)
    assert list(tiny.state_dict()) == list(built.state_dict())
    assert repr(tiny) == repr(built)
    assert_same_outputs(giant, tiny, torch.randn(2, 4, 11, 9))


class FeedForward(nn.Module):
    """The feed-forward half of a transformer block."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(6)
        self.fc1 = nn.Linear(6, 24, bias=bias)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(24, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + self.fc2(self.act(self.fc1(self.norm(x))))
        return out


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("bias", [True, False])
def test_feed_forward_layers_are_expanded_and_contracted(block, bias):
    built = nn.Sequential(FeedForward(bias), FeedForward(bias))
    giant = linear_giant(built, block=block, fraction=1.0)
    expanded = [name for name, module in giant.named_modules() if isinstance(module, ExpandedLayer)]
    assert expanded == ["0.fc1", "1.fc1"]
    assert sum(isinstance(layer, nn.Linear) for layer in giant.get_submodule("0.fc1").children()) == (
        3 if block == "bottleneck" else 2
    )
    tiny = contract(giant)
    assert repr(tiny) == repr(built)
    assert_same_outputs(giant, tiny, torch.randn(2, 5, 6))


class Residual(nn.Module):
    """A ResNet's basic block: one activation module, used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(out + x)


def test_a_residual_block_with_named_layers_is_contracted():
    built = nn.Sequential(Residual(), Residual())
    giant = linear_giant(built, fraction=1.0, layers=["0.conv1", "1.conv2"])
    assert_same_outputs(giant, contract(giant), torch.randn(2, 4, 7, 6))


def test_the_bias_moves_to_the_running_mean_of_the_norm_behind():
    giant = linear_giant(network())
    before, after = giant.state_dict(), contract(giant).state_dict()
    moved = {k for k in after if k in before and not torch.equal(before[k], after[k])}
    assert moved == {f"blocks.{i}.expand.norm.running_mean" for i in (1, 3)}


def test_contraction_leaves_the_giant_untouched():
    giant = linear_giant(network()).train()
    before = {name: tensor.clone() for name, tensor in giant.state_dict().items()}
    contract(giant)
    assert giant.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in giant.state_dict().items())


@pytest.mark.parametrize("slope", [0.0, 0.5, 1 - 2**-24])
def test_a_giant_that_is_not_yet_linear_is_refused(slope):
    giant = linear_giant(network())
    set_slope(giant.get_submodule("blocks.3"), slope)
    with pytest.raises(ContractionError, match=r"'blocks\.3\.expand\.conv': the slope .* not 1") as error:
        contract(giant)
    assert isinstance(error.value, UserError)


class Misregistered(nn.Module):
    """Its norms stand in the other order than they run in."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.second_norm(self.second(functional.relu(self.first_norm(self.first(x)))))
        return out


def test_a_bias_that_went_to_the_wrong_norm_is_noticed():
    giant = linear_giant(Misregistered(), layers=["first"], activation="relu")
    images = torch.randn(2, 2, 5, 5)
    with pytest.raises(ContractionError, match="contraction changes outputs"):
        contract(giant, images)
    right = linear_giant(network())
    contract(right, torch.randn(2, 1, 8, 8))


def test_a_norm_without_statistics_is_refused():
    giant = linear_giant(network())
    block = giant.get_submodule("blocks.1.expand.conv")
    block[1] = nn.BatchNorm2d(48, track_running_stats=False)
    with pytest.raises(ContractionError, match=r"'blocks\.1\.expand\.conv': .* no running statistics"):
        contract(giant)


def run(conv: AffineConv, x: torch.Tensor) -> torch.Tensor:
    return functional.conv2d(x, conv.weight, conv.bias, conv.stride, conv.padding)


sizes = st.tuples(st.integers(1, 3), st.integers(1, 3))
strides = st.tuples(st.integers(1, 2), st.integers(1, 2))
paddings = st.tuples(st.integers(0, 2), st.integers(0, 2))


@settings(max_examples=150, deadline=None)
@given(
    kernels=st.tuples(sizes, sizes),
    strides=st.tuples(strides, strides),
    paddings=st.tuples(paddings, paddings),
    bias=st.booleans(),
)
def test_two_convolutions_become_one_on_every_pixel_or_are_refused(kernels, strides, paddings, bias):
    first = as_affine(nn.Conv2d(2, 3, kernels[0], strides[0], paddings[0], bias=bias))
    second = as_affine(nn.Conv2d(3, 4, kernels[1], strides[1], paddings[1]))
    image = torch.randn(1, 2, 13, 12, dtype=torch.float64)
    middle = run(first, image)
    expected = run(second, middle)
    if any(paddings[1]) and (bias or kernels[0] != (1, 1) or any(paddings[0])):
        with pytest.raises(ContractionError, match="a padded convolution follows one"):
            compose(first, second)
    else:
        torch.testing.assert_close(run(compose(first, second), image), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("affine", [True, False])
def test_a_folded_norm_computes_what_it_did(affine):
    conv, norm = nn.Conv2d(4, 6, 3, groups=2).double(), nn.BatchNorm2d(6, eps=0.1, affine=affine).double()
    randomise(nn.Sequential(conv, norm))
    norm.eval()
    image = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(run(fold(as_affine(conv), norm), image), norm(conv(image)), atol=1e-12, rtol=0)


def test_the_models_stages_with_other_kernels_and_strides_are_contracted():
    model = MODEL.model_copy(update={"padding": "symmetric"})
    names = ["stem.conv", "blocks.1.depthwise.conv", "blocks.2.project.conv", "last.conv"]
    for block in BLOCKS:
        giant = linear_giant(network(model, (1, 9, 7)), block=block, fraction=1.0, layers=names)
        assert sum(isinstance(module, ExpandedLayer) for module in giant.modules()) == 4
        assert_same_outputs(giant, contract(giant), torch.randn(2, 1, 9, 7))
