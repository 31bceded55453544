from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_configs import TRAIN, network, randomise
from torch.nn import functional

from trainer.config import ModelConfig, NetAugConfig, StageConfig
from trainer.methods import MethodContext
from trainer.methods.elastic import activate, draw, largest, slice_into, sort_hidden_channels, widen
from trainer.methods.netaug import NetAug
from trainer.models import InvertedResidualNetwork, build_network, count
from trainer.models.blocks import BlockRow
from trainer.models.network import NetworkTable
from trainer.optim import make_optimizer

SE_MODEL = ModelConfig(
    stem_channels=8,
    stem_stride=1,
    stages=(
        StageConfig(expand_ratio=1, channels=8, activation="relu"),
        StageConfig(
            expand_ratio=8, channels=10, blocks=2, stride=2, activation="hard_swish", squeeze_excite=True
        ),
        StageConfig(expand_ratio=2, channels=12, kernel=7, activation="relu", squeeze_excite=True),
    ),
    last_channels=14,
    head_channels=18,
)
NETAUG = NetAugConfig(width=(1.0, 1.8, 2.6), expand=(1.0, 1.6, 2.2))
IMAGES = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
LABELS = torch.tensor([0, 1, 2, 3, 4])
TINY = network(SE_MODEL).table

FAMILIES = [
    (ModelConfig(name="mobilenet_v2_tiny"), 144, (1.0, 1.8, 2.6), "5.83", "334"),
    (ModelConfig(name="mcunet"), 176, (1.0, 1.6, 2.2), "7.27", "866"),
    (ModelConfig(width_multiplier=0.35), 160, (1.0, 1.8, 2.6), "8.62", "412"),
    (ModelConfig(name="mobilenet_v3_large", width_multiplier=0.35), 160, (1.0, 2.0, 3.0), "25.2", "360"),
    (ModelConfig(name="proxyless_mobile", width_multiplier=0.35), 160, (1.0, 1.8, 2.6), "9.73", "454"),
]


def loss(logits: torch.Tensor, *, augmented: bool = False) -> torch.Tensor:
    return functional.cross_entropy(logits, LABELS)


def make_netaug(model: ModelConfig = SE_MODEL, config: NetAugConfig = NETAUG) -> NetAug:
    train = TRAIN.model_copy(update={"netaug": config})
    plain = network(model, (1, 8, 8) if model is SE_MODEL else (3, 32, 32))
    method = NetAug(MethodContext(plain, model, train))
    randomise(method.network)
    return method


def sliced(method: NetAug, table: NetworkTable) -> InvertedResidualNetwork:
    """The member of the family as a plain network of its own."""
    plain = InvertedResidualNetwork(table).double()
    slice_into(plain, method.network)
    return plain


@pytest.mark.parametrize(("model", "side", "width", "parameters", "macs"), FAMILIES)
def test_the_largest_networks_have_the_size_of_the_authors(model, side, width, parameters, macs):
    shape = (3, side, side)
    with torch.device("meta"):
        tiny = build_network(model, shape, 1000)
        assert isinstance(tiny, InvertedResidualNetwork)
        assert widen(tiny.table, lambda: 1.0, lambda: 1.0) == tiny.table
        cost = count(InvertedResidualNetwork(largest(tiny.table, width, (1.0, 2.8))), shape)
    assert f"{cost.parameters / 1e6:.{len(parameters.partition('.')[2])}f}" == parameters
    assert f"{cost.macs / 1e6:.0f}" == macs


@pytest.mark.parametrize("model", [family[0] for family in FAMILIES], ids=lambda model: model.name)
def test_the_exported_network_is_bit_identical_to_the_tiny_slice(model):
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    method = make_netaug(model, NetAugConfig(width=(1.0, 1.3), expand=(1.0, 1.4)))
    tiny = method.tiny_network([images])
    assert isinstance(tiny, InvertedResidualNetwork)
    activate(method.network, tiny.table)
    full = method.network.state_dict()
    for name, tensor in tiny.state_dict().items():
        if tensor.ndim and "running" in name:
            full[name][: len(tensor)] = tensor
    method.network.eval()
    with torch.inference_mode():
        expected = method.network(images)
        assert torch.equal(tiny(images), expected)
    assert expected.isfinite().all()
    assert expected.std() > 0
    plain = build_network(model, (3, 32, 32), 10)
    assert sum(p.numel() for p in tiny.parameters()) == sum(p.numel() for p in plain.parameters())


def test_squeeze_widths_keep_their_share_of_the_hidden_width_but_not_below_16():
    table = NetworkTable(
        (1, 8, 8),
        10,
        8,
        (
            BlockRow(8, 40, 8, squeeze=16),
            BlockRow(8, 168, 8, squeeze=40, shortcut=True),
            BlockRow(8, 16, 8, squeeze=4),
        ),
        0,
    )
    assert [row.squeeze for row in widen(table, lambda: 1.0, lambda: 1.0).blocks] == [16, 40, 4]
    wide = widen(table, lambda: 2.0, lambda: 1.6).blocks
    assert [(row.hidden, row.squeeze) for row in wide] == [(128, 51), (538, 128), (51, 13)]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), training=st.booleans())
def test_a_member_computes_what_a_plain_network_of_its_slice_does(seed, training):
    method = make_netaug()
    method.network.double()
    table = draw(TINY, NETAUG.width, NETAUG.expand, seed)
    plain = sliced(method, table).train(training)
    activate(method.network, table)
    method.network.train(training)
    torch.testing.assert_close(method.network(IMAGES), plain(IMAGES), rtol=1e-12, atol=1e-12)


def test_every_member_within_reach_runs():
    method = make_netaug()
    method.network.eval()
    seen = set()
    with torch.inference_mode():
        for seed in range(200):
            table = draw(TINY, NETAUG.width, NETAUG.expand, seed)
            activate(method.network, table)
            seen.add(table)
            assert method.network(IMAGES.float()).shape == (5, 10)
    assert len(seen) > 150
    assert len({table.head_channels for table in seen}) == len(NETAUG.width)


def test_a_step_sums_the_gradients_of_the_tiny_and_the_drawn_network():
    method = make_netaug()
    method.network.double().train()
    expected = {name: torch.zeros_like(p) for name, p in method.network.named_parameters()}
    for table in (TINY, method.drawn(0, 3)):
        plain = sliced(method, table).train()
        loss(plain(IMAGES)).backward()
        for name, parameter in plain.named_parameters():
            expected[name][tuple(slice(n) for n in parameter.shape)] += parameter.grad
    method.backward(IMAGES, loss, 0, 3)
    for name, parameter in method.network.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-10, atol=1e-10)


def test_weights_beyond_the_tiny_slice_do_not_reach_its_output():
    method = make_netaug()
    activate(method.network, TINY)
    method.network.eval()
    before = method.network(IMAGES.float())
    shapes = {name: tensor.shape for name, tensor in network(SE_MODEL).state_dict().items()}
    for name, tensor in method.network.state_dict().items():
        if tensor.ndim:
            inside = tensor[tuple(slice(n) for n in shapes[name])].clone()
            tensor.mul_(-3).add_(1e6)
            tensor[tuple(slice(n) for n in shapes[name])] = inside
    assert torch.equal(method.network(IMAGES.float()), before)


@pytest.mark.parametrize("momentum", [True, False])
def test_sorting_orders_hidden_and_squeezed_channels_and_keeps_the_full_function(momentum):
    method = make_netaug()
    full = method.network.double().eval()
    optimizer = make_optimizer(full, TRAIN)
    for parameter in full.parameters():
        optimizer.state[parameter]["momentum_buffer"] = 2 * parameter.detach()
    activate(full, full.table)
    before = full(IMAGES)
    weights = {name: parameter.clone() for name, parameter in full.named_parameters()}
    sort_hidden_channels(full, optimizer, momentum=momentum)
    torch.testing.assert_close(full(IMAGES), before, rtol=1e-10, atol=1e-10)
    moved = {name for name, parameter in full.named_parameters() if not torch.equal(parameter, weights[name])}
    for part in ("reduce.weight", "reduce.bias", "expand.weight", "expand.bias"):
        assert {f"blocks.{index}.excite.{part}" for index in (1, 2, 3)} <= moved
    assert not any(name.startswith(("stem", "blocks.0", "last", "head", "classifier")) for name in moved)
    for block in full.inverted_blocks[1:]:
        for conv in (block.project.conv, block.excite.expand):
            importance = conv.weight.abs().sum(dim=(0, 2, 3))
            assert torch.equal(importance, importance.sort(descending=True).values)
    for name, parameter in full.named_parameters():
        followed = parameter if momentum else weights[name]
        assert torch.equal(optimizer.state[parameter]["momentum_buffer"], 2 * followed), name
