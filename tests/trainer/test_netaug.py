from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tiny_configs import DATA, MODEL, NETAUG, TRAIN, network, randomise
from torch import nn
from torch.nn import functional

import trainer
from common.errors import ConfigError
from trainer.checkpoint import load_network
from trainer.config import ModelConfig
from trainer.data import load_dataset, normalise
from trainer.methods import METHODS, MethodContext
from trainer.methods.calibration import reestimate_batchnorm
from trainer.methods.elastic import activate, draw, slice_into, sort_hidden_channels, widen
from trainer.methods.netaug import NetAug
from trainer.models import InvertedResidualNetwork, build_network
from trainer.models.blocks import BlockRow
from trainer.models.network import NetworkTable
from trainer.optim import make_optimizer

IMAGES = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
LABELS = torch.tensor([0, 1, 2, 3, 4, 5])


def loss(logits: torch.Tensor, *, augmented: bool = False) -> torch.Tensor:
    return functional.cross_entropy(logits, LABELS, label_smoothing=0.1)


def make_netaug(**changes: object) -> NetAug:
    """A NetAug on the small network, in float64, with weights and statistics that hide nothing."""
    train = TRAIN.model_copy(update={"netaug": NETAUG.model_copy(update=changes)})
    method = NetAug(MethodContext(network(), MODEL, train))
    randomise(method.network)
    method.network.double()
    return method


def sliced(method: NetAug, table: NetworkTable) -> InvertedResidualNetwork:
    """The member of the family as a plain network of its own."""
    plain = InvertedResidualNetwork(table).double()
    slice_into(plain, method.network)
    return plain


def test_augmented_widths_are_rounded_to_integers():
    row = BlockRow(16, 16, 16)
    table = NetworkTable((1, 8, 8), 10, 16, (row,), 16)
    outs = {widen(table, lambda f=f: f, lambda: 1.0).blocks[0].out_channels for f in (1.0, 1.8, 2.6)}
    assert outs == {16, 29, 42}


def test_factors_compound_and_shortcuts_inherit_their_width():
    wide = widen(network().table, lambda: 2.0, lambda: 1.5)
    assert wide.stem_channels == 16
    assert wide.blocks == (
        BlockRow(16, 16, 16),
        BlockRow(16, 72, 24, stride=2),
        BlockRow(24, 108, 24, shortcut=True),
        BlockRow(24, 72, 24, kernel=5),
        BlockRow(24, 72, 24, kernel=5, shortcut=True),
    )
    assert wide.last_channels == 48


def test_factors_of_one_give_the_tiny_network():
    assert widen(network().table, lambda: 1.0, lambda: 1.0) == network().table


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), training=st.booleans())
def test_a_member_computes_what_a_plain_network_of_its_slice_does(seed, training):
    method = make_netaug()
    table = draw(network().table, NETAUG.width, NETAUG.expand, seed)
    plain = sliced(method, table).train(training)
    activate(method.network, table)
    method.network.train(training)
    torch.testing.assert_close(method.network(IMAGES), plain(IMAGES), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("width", [NETAUG.width, (1.0,)], ids=["random", "min_w"])
@pytest.mark.parametrize("expand", [NETAUG.expand, (1.0,)], ids=["random", "min_e"])
def test_a_thousand_drawn_networks_run(width, expand):
    model = MODEL.model_copy(update={"padding": "symmetric"})
    method = NetAug(MethodContext(network(model, (1, 5, 5)), model, TRAIN))
    method.network.double().eval()
    tiny = network(model, (1, 5, 5)).table
    seen = set()
    with torch.inference_mode():
        for seed in range(250):
            table = draw(tiny, width, expand, seed)
            activate(method.network, table)
            seen.add(table)
            assert method.network(IMAGES[:2, :, :5, :5]).shape == (2, 10)
    assert (len(seen) == 1) == (len(width) == len(expand) == 1)


def test_weights_beyond_the_tiny_slice_do_not_reach_its_output():
    method = make_netaug()
    tiny = network().double()
    activate(method.network, tiny.table)
    method.network.eval()
    before = method.network(IMAGES)
    shapes = {name: tensor.shape for name, tensor in tiny.state_dict().items()}
    for name, tensor in method.network.state_dict().items():
        if tensor.ndim:
            inside = tensor[tuple(slice(n) for n in shapes[name])].clone()
            tensor.mul_(-3).add_(1e6)
            tensor[tuple(slice(n) for n in shapes[name])] = inside
    assert torch.equal(method.network(IMAGES), before)


def test_weights_inside_the_tiny_slice_reach_both_outputs():
    method = make_netaug()
    tiny, wide = network().table, method.network.table
    method.network.eval()

    def outputs() -> list[torch.Tensor]:
        results = []
        for table in (tiny, wide):
            activate(method.network, table)
            results.append(method.network(IMAGES))
        return results

    before = outputs()
    for name, tensor in network().named_parameters():
        shared = method.network.get_parameter(name).data[tuple(slice(n) for n in tensor.shape)]
        shared += 0.1
        assert not any(torch.equal(a, b) for a, b in zip(before, outputs(), strict=True)), name
        shared -= 0.1


@settings(max_examples=10, deadline=None)
@given(step=st.integers(0, 10**6), alpha=st.sampled_from([0.0, 0.5, 1.0]))
def test_a_step_sums_the_gradients_of_the_tiny_and_the_drawn_network(step, alpha):
    method = make_netaug(alpha=alpha)
    method.network.train()
    expected = {name: torch.zeros_like(p) for name, p in method.network.named_parameters()}
    tables = (network().table, method.drawn(0, step))
    for table, weight in zip(tables, (1.0, alpha), strict=True):
        plain = sliced(method, table).train()
        loss(plain(IMAGES)).backward()
        for name, parameter in plain.named_parameters():
            assert parameter.grad is not None
            expected[name][tuple(slice(n) for n in parameter.shape)] += weight * parameter.grad
    result = method.backward(IMAGES, loss, 0, step)
    for name, parameter in method.network.named_parameters():
        assert parameter.grad is not None, f"{name}: unused channels must get a zero gradient, not None"
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-10, atol=1e-10)
    tiny = sliced(method, tables[0]).train()
    torch.testing.assert_close(result.outputs, tiny(IMAGES).detach())
    torch.testing.assert_close(result.loss, loss(tiny(IMAGES)).detach())


def trained_momentum(method: NetAug) -> torch.optim.Optimizer:
    optimizer = make_optimizer(method.network, TRAIN)
    method.backward(IMAGES, loss, 0, 0)
    optimizer.step()
    for index, parameter in enumerate(method.network.parameters()):
        generator = torch.Generator().manual_seed(index)
        momentum = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        optimizer.state[parameter]["momentum_buffer"] = momentum
    return optimizer


def test_sorting_keeps_the_full_function_and_moves_momentum_along():
    method = make_netaug()
    optimizer = trained_momentum(method)
    full = method.network
    full.eval()
    activate(full, full.table)
    before = full(IMAGES)
    weights = {name: tensor.clone() for name, tensor in full.state_dict().items()}
    momenta = {
        name: optimizer.state[parameter]["momentum_buffer"].clone()
        for name, parameter in full.named_parameters()
    }
    sort_hidden_channels(full, optimizer)
    torch.testing.assert_close(full(IMAGES), before, rtol=1e-10, atol=1e-10)

    moved = set()
    for index, block in enumerate(full.inverted_blocks):
        if block.expand is None:
            continue
        old = weights[f"blocks.{index}.project.conv.weight"].abs().sum(dim=(0, 2, 3))
        order = old.argsort(descending=True)
        importance = block.project.conv.weight.abs().sum(dim=(0, 2, 3))
        assert torch.equal(importance, importance.sort(descending=True).values)
        axes = {"expand.conv.weight": 0, "depthwise.conv.weight": 0, "project.conv.weight": 1}
        for norm in ("expand.norm", "depthwise.norm"):
            axes |= {f"{norm}.{part}": 0 for part in ("weight", "bias", "running_mean", "running_var")}
        for name, axis in axes.items():
            key = f"blocks.{index}.{name}"
            moved.add(key)
            assert torch.equal(full.state_dict()[key], weights[key].index_select(axis, order)), key
            if key in momenta:
                buffer = optimizer.state[full.get_parameter(key)]["momentum_buffer"]
                assert torch.equal(buffer, momenta[key].index_select(axis, order)), key
    for name, tensor in full.state_dict().items():
        assert name in moved or torch.equal(tensor, weights[name]), f"{name} must not move"
    for name, momentum in momenta.items():
        buffer = optimizer.state[full.get_parameter(name)]["momentum_buffer"]
        assert name in moved or torch.equal(buffer, momentum), f"momentum of {name} must not move"

    once = {name: tensor.clone() for name, tensor in full.state_dict().items()}
    sort_hidden_channels(full, optimizer)
    assert all(torch.equal(tensor, once[name]) for name, tensor in full.state_dict().items())


def test_sorting_can_leave_momentum_in_place_as_the_authors_do():
    method = make_netaug(sort_momentum=False)
    optimizer = trained_momentum(method)
    before = [optimizer.state[p]["momentum_buffer"].clone() for p in method.network.parameters()]
    weights = method.network.inverted_blocks[1].project.conv.weight.clone()
    method.start_epoch(0, optimizer)
    assert not torch.equal(method.network.inverted_blocks[1].project.conv.weight, weights)
    after = [optimizer.state[p]["momentum_buffer"] for p in method.network.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_sorting_stops_when_widths_are_no_longer_drawn():
    method = make_netaug(random_epochs=2)
    optimizer = trained_momentum(method)
    weights = {name: tensor.clone() for name, tensor in method.network.state_dict().items()}
    method.start_epoch(2, optimizer)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in method.network.state_dict().items())


def test_widths_are_drawn_in_the_first_80_of_155_epochs_and_expansions_always():
    method = NetAug(MethodContext(network(), MODEL, TRAIN.model_copy(update={"epochs": 155})))
    tiny = network().table

    def varies(epoch: int) -> tuple[bool, bool]:
        tables = [method.drawn(epoch, step) for step in range(50)]
        outs = {(t.stem_channels, t.last_channels, *(row.out_channels for row in t.blocks)) for t in tables}
        return len(outs) > 1, len({tuple(row.hidden for row in t.blocks) for t in tables}) > 1

    assert varies(0) == (True, True)
    assert varies(79) == (True, True)
    assert varies(80) == (False, True)
    late = method.drawn(154, 0)
    assert (late.stem_channels, late.last_channels) == (tiny.stem_channels, tiny.last_channels)


def test_widths_are_always_drawn_where_expansions_change_nothing():
    """Otherwise DS-CNN's late epochs would train the tiny network twice in each step."""
    model = ModelConfig(name="ds_cnn")
    train = TRAIN.model_copy(update={"epochs": 155})
    method = NetAug(MethodContext(build_network(model, (1, 49, 10), 10), model, train))
    assert len({method.drawn(154, step) for step in range(50)}) > 1
    few = train.model_copy(update={"netaug": train.netaug.model_copy(update={"random_epochs": 10})})
    method = NetAug(MethodContext(build_network(model, (1, 49, 10), 10), model, few))
    assert {method.drawn(10, step) for step in range(50)} == {method.family.tiny}


def test_draws_depend_on_seed_and_step_alone():
    first, second = make_netaug(), make_netaug()
    torch.manual_seed(99)
    late = [second.drawn(0, step) for step in range(60, 100)]
    assert [first.drawn(0, step) for step in range(100)][60:] == late
    other = NetAug(MethodContext(network(), MODEL, TRAIN.model_copy(update={"seed": 5})))
    assert [other.drawn(0, step) for step in range(60, 100)] != late


def test_batchnorm_statistics_are_weighted_means_of_batch_statistics():
    layer = nn.Sequential(nn.BatchNorm2d(3))
    batches = [torch.randn(5, 3, 4, 2) * 3 + 1, torch.randn(2, 3, 4, 2) - 4]
    reestimate_batchnorm(layer, batches)
    stats = [torch.var_mean(batch, dim=(0, 2, 3), correction=0) for batch in batches]
    norm = layer[0]
    assert isinstance(norm, nn.BatchNorm2d)
    torch.testing.assert_close(norm.running_var, (5 * stats[0][0] + 2 * stats[1][0]) / 7)
    torch.testing.assert_close(norm.running_mean, (5 * stats[0][1] + 2 * stats[1][1]) / 7)
    assert norm.momentum == 0.1
    assert not layer.training


def test_later_layers_are_calibrated_behind_batch_normalised_earlier_ones():
    layers = nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
    randomise(layers)
    batch = torch.randn(8, 2, 3, 3)
    expected = copy.deepcopy(layers).train()
    hidden = expected[1](expected[0](batch))
    reestimate_batchnorm(layers, [batch])
    assert isinstance(layers[2], nn.BatchNorm2d)
    torch.testing.assert_close(layers[2].running_mean, hidden.mean(dim=(0, 2, 3)).detach())


def test_a_norm_that_is_applied_twice_averages_over_both():
    norm = nn.BatchNorm2d(3)
    batch = torch.randn(5, 3, 4, 2) * 3 + 1
    reestimate_batchnorm(nn.Sequential(norm, nn.Hardswish(), norm), [batch])
    again = functional.hardswish(functional.batch_norm(batch, None, None, training=True))
    seen = [torch.var_mean(images, dim=(0, 2, 3), correction=0) for images in (batch, again)]
    torch.testing.assert_close(norm.running_var, (seen[0][0] + seen[1][0]) / 2)
    torch.testing.assert_close(norm.running_mean, (seen[0][1] + seen[1][1]) / 2)


def test_calibration_drops_no_values():
    layers = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(3))
    batch = torch.randn(5, 3, 4, 2) + 2
    reestimate_batchnorm(layers, [batch])
    assert isinstance(layers[1], nn.BatchNorm2d)
    torch.testing.assert_close(layers[1].running_mean, batch.mean(dim=(0, 2, 3)))


def test_norms_of_vectors_are_calibrated_and_those_without_statistics_or_use_left():
    unused = nn.BatchNorm2d(2)
    layers = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten(), nn.BatchNorm1d(24))
    layers.register_module("unused", unused)
    layers.forward = lambda x: layers[2](layers[1](layers[0](x)))
    batch = torch.randn(6, 3, 4, 2)
    reestimate_batchnorm(layers, [batch])
    expected = functional.batch_norm(batch, None, None, training=True).flatten(1).mean(0)
    torch.testing.assert_close(layers[2].running_mean, expected)
    assert torch.equal(unused.running_var, torch.ones(2))


def test_calibration_without_images_is_an_error():
    with pytest.raises(ValueError, match="at least one batch"):
        reestimate_batchnorm(nn.BatchNorm2d(2), [])


def test_the_exported_network_is_bit_identical_to_the_tiny_slice():
    method = make_netaug()
    method.network.float()
    batch = IMAGES.float()
    tiny = method.tiny_network([batch])
    activate(method.network, network().table)
    full = method.network.state_dict()
    for name, tensor in tiny.state_dict().items():
        if tensor.ndim and "running" in name:
            full[name][: len(tensor)] = tensor
    method.network.eval()
    with torch.inference_mode():
        assert torch.equal(method.network(batch), tiny(batch))
    assert not any(type(module).__name__.startswith("Elastic") for module in tiny.modules())
    assert sum(p.numel() for p in tiny.parameters()) == sum(p.numel() for p in network().parameters())
    assert {p.data_ptr() for p in tiny.parameters()}.isdisjoint(
        p.data_ptr() for p in method.network.parameters()
    )


def test_statistics_of_the_training_network_do_not_reach_the_exported_one():
    method = make_netaug()
    before = method.tiny_network([IMAGES.float()]).state_dict()
    for name, tensor in method.network.state_dict().items():
        if "running" in name:
            tensor.add_(17)
    after = method.tiny_network([IMAGES.float()]).state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_a_network_without_hidden_channels_is_refused():
    context = MethodContext(nn.Linear(2, 2), MODEL.model_copy(update={"name": "mine"}), TRAIN)
    with pytest.raises(ConfigError, match="to widen in Linear: use method plain"):
        METHODS.get("netaug")(context)


def test_estimated_statistics_do_better_than_those_that_wider_networks_wrote_to(tmp_path):
    train = TRAIN.model_copy(update={"method": "netaug", "epochs": 6, "learning_rate": 0.3})
    result = trainer.train(DATA, MODEL, train, tmp_path)
    stale, architecture = load_network(tmp_path)
    shared = load_file(tmp_path / "resume.safetensors")
    for name, tensor in stale.state_dict().items():
        if "running" in name:
            written = shared[f"network.{name}"][: len(tensor)]
            assert not torch.equal(tensor, written)
            tensor.copy_(written)
    data = load_dataset(architecture.data)
    with torch.inference_mode():
        logits = stale(normalise(data.test_images, architecture.mean, architecture.std))
    correct = logits.argmax(1) == torch.as_tensor(data.test_labels)
    assert result.accuracy > correct.float().mean().item()
