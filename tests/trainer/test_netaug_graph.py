"""NetAug on networks that are none of inverted residual blocks: widths found by tracing them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_configs import DATA, MODEL, TRAIN, randomise
from torch import Tensor, nn
from torch.nn import functional

import trainer
from common.errors import ConfigError
from trainer.checkpoint import load_network
from trainer.config import ModelConfig, NetAugConfig, NetBoosterConfig
from trainer.methods import METHODS, MethodContext
from trainer.methods.channel_groups import channel_groups
from trainer.methods.elastic_family import GraphFamily
from trainer.methods.netaug import NetAug
from trainer.models import MODELS, build_network, count, register_model
from trainer.optim import make_optimizer

NETAUG = NetAugConfig(width=(1.0, 1.5, 2.0), expand=(1.0, 1.6), calibration_images=64)
LABELS = torch.tensor([0, 1, 2, 3])


class Mixed(nn.Module):
    """What users write: squeeze-and-excitation, concatenation, a shared layer, functions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.branch = nn.Conv2d(6, 10, 1)
        self.project = nn.Conv2d(10, 6, 3, padding=1)
        self.squeeze, self.excite = nn.Conv2d(6, 3, 1), nn.Conv2d(3, 6, 1)
        self.left, self.right = nn.Conv2d(6, 4, 1), nn.Conv2d(6, 5, 1)
        self.depthwise = nn.Conv2d(9, 9, 3, padding=1, groups=9)
        self.shared = nn.Conv2d(9, 9, 1)
        self.free = nn.Conv2d(9, 7, 1)
        self.hidden = nn.Linear(7 * 4, 12)
        self.classifier = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.project(functional.relu(self.branch(x)))
        x = x * torch.sigmoid(self.excite(functional.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        x = torch.cat([self.left(x), self.right(x)], dim=1)
        x = self.shared(self.shared(self.depthwise(x)))
        x = functional.adaptive_avg_pool2d(functional.relu(self.free(x)), 2)
        logits: Tensor = self.classifier(functional.gelu(self.hidden(torch.flatten(x, 1))))
        return logits


def resnet8() -> nn.Module:
    return build_network(ModelConfig(name="resnet8"), (1, 8, 8), 10)


def ds_cnn() -> nn.Module:
    return build_network(ModelConfig(name="ds_cnn"), (1, 8, 8), 10)


NETWORKS = {"resnet8": resnet8, "ds_cnn": ds_cnn, "mixed": Mixed}
IMAGES = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def make_netaug(name: str) -> NetAug:
    train = TRAIN.model_copy(update={"netaug": NETAUG})
    method = NetAug(MethodContext(NETWORKS[name](), MODEL.model_copy(update={"name": name}), train))
    randomise(method.network)
    method.network.double()
    return method


def loss(logits: Tensor, *, augmented: bool = False) -> Tensor:
    return functional.cross_entropy(logits, LABELS)


def test_sums_tie_widths_and_branches_hide_theirs():
    groups = channel_groups(resnet8())
    assert [(g.width, g.hidden, g.parent, g.producers) for g in groups] == [
        (16, False, None, ("stem.conv", "blocks.0.second.conv")),
        (32, False, None, ("blocks.1.shortcut", "blocks.1.second.conv")),
        (64, False, None, ("blocks.2.shortcut", "blocks.2.second.conv")),
        (16, True, 0, ("blocks.0.first.conv",)),
        (32, True, 0, ("blocks.1.first.conv",)),
        (64, True, 1, ("blocks.2.first.conv",)),
    ]


def test_what_could_change_the_meaning_of_an_operation_keeps_its_width():
    groups = channel_groups(Mixed())
    assert {name for group in groups for name in group.producers} == {
        *("stem.0", "project", "excite"),  # tied by a sum and a product
        *("branch", "squeeze", "hidden"),
    }
    assert {group.producers[0]: group.hidden for group in groups} == {
        "stem.0": False,
        "branch": True,
        "squeeze": True,
        "hidden": False,
    }


class Awkward(nn.Module):
    """Operations that look alike and are not: each would give wrong results if its channels were sliced."""

    def __init__(self, case: str) -> None:
        super().__init__()
        self.case = case
        self.conv, self.other = nn.Conv2d(1, 16, 1), nn.Conv2d(1, 16, 1)
        self.free = nn.Conv2d(18 if case == "padded channels" else 16, 16, 1)
        self.mixer = nn.Linear(16, 16)
        self.scale = nn.Parameter(torch.ones(1, 16, 1, 1))
        self.classifier = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(functional.avg_pool2d(x, 2))
        if self.case == "flattened pixels":
            x = self.mixer(x.flatten(2)).unflatten(2, (4, 4))
        elif self.case == "padded channels":
            x = functional.pad(x, (0, 0, 0, 0, 1, 1))
        elif self.case == "a parameter":
            x = x * self.scale
        elif self.case == "a softmax":
            x = x.softmax(dim=1)
        elif self.case == "a part":
            x = torch.cat([x[:, 8:], x[:, :8]], dim=1)
        elif self.case == "the weight itself":
            x = x + functional.conv2d(x, self.free.weight * 0.1)
        x = self.free(x) if self.case != "the weight itself" else x
        logits: Tensor = self.classifier(x.mean((2, 3)))
        return logits


@pytest.mark.parametrize(
    "case",
    ["flattened pixels", "padded channels", "a parameter", "a softmax", "a part", "the weight itself"],
)
def test_channels_that_meet_an_awkward_operation_keep_their_width(case):
    network = Awkward(case)
    groups = channel_groups(network)
    free = {"free"} if case != "the weight itself" else set()
    assert {name for group in groups for name in group.producers} == free
    if groups:
        family = GraphFamily(network, groups, (1.0, 1.5), (1.0,))
        family.activate(family.draw((1.5,), (1.0,), 0))
        assert family.network(IMAGES.float()).shape == (4, 10)


def test_the_zoo_is_widened_as_its_structure_allows():
    with torch.device("meta"):
        found = {
            name: channel_groups(build_network(ModelConfig(name=name), (3, 32, 32), 10))
            for name in ("resnet50", "deit_tiny", "ds_cnn")
        }
    assert [len(found[name]) for name in ("resnet50", "deit_tiny", "ds_cnn")] == [37, 12, 5]
    assert sum(not group.hidden for group in found["resnet50"]) == 5  # the stem and a stream per stage
    assert all(group.hidden and group.width == 4 * 192 for group in found["deit_tiny"])  # feed-forward only
    assert not any(group.hidden for group in found["ds_cnn"])


def masked(method: NetAug, member: object) -> nn.Module:
    """The largest network of plain layers with zeros beyond the member's channels: the same function."""
    family = method.family
    assert isinstance(family, GraphFamily)
    plain = NETWORKS[method_name(family)]().double()
    groups = channel_groups(plain)
    assert isinstance(member, tuple)
    state = {name: tensor.clone() for name, tensor in family.network.state_dict().items()}
    for group, width in zip(groups, member, strict=True):
        for name, axis in (*group.outputs, *group.inputs):
            if not name.endswith(("running_mean", "running_var")):
                state[name].transpose(0, axis)[width:] = 0
    wide = GraphFamily(plain, groups, NETAUG.width, NETAUG.expand).network.double()
    wide.load_state_dict(state)
    return wide


def method_name(family: GraphFamily) -> str:
    return next(
        name
        for name, make in NETWORKS.items()
        if set(make().state_dict()) == set(family.network.state_dict())
    )


@settings(max_examples=10, deadline=None)
@given(name=st.sampled_from(sorted(NETWORKS)), seed=st.integers(0, 2**63 - 1), training=st.booleans())
def test_a_member_computes_what_zeros_beyond_its_channels_give(name, seed, training):
    method = make_netaug(name)
    member = method.family.draw(NETAUG.width, NETAUG.expand, seed)
    wide = masked(method, member)
    method.family.activate(member)
    for network in (wide, method.network):
        network.train(training)
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.eval()
    torch.testing.assert_close(method.network(IMAGES), wide(IMAGES), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("width", "expand"), [(True, True), (False, True), (True, False), (False, False)])
def test_drawn_networks_run_in_every_mode(name, width, expand):
    method = make_netaug(name)
    method.network.eval()
    factors = NETAUG.width if width else (1.0,), NETAUG.expand if expand else (1.0,)
    seen = {method.family.draw(*factors, seed) for seed in range(12)}
    with torch.inference_mode():
        for member in seen:
            method.family.activate(member)
            assert method.network(IMAGES).isfinite().all()
    drawn = [group.hidden for group in channel_groups(NETWORKS[name]())]
    assert (len(seen) > 1) == ((width and False in drawn) or (expand and True in drawn))


def test_a_thousand_drawn_networks_run_and_factors_compound():
    method = make_netaug("resnet8")
    method.network.eval()
    largest = method.family.network.state_dict()
    assert largest["blocks.2.first.conv.weight"].shape[:2] == (round(64 * 2.0 * 1.6), 64)
    assert largest["stem.conv.weight"].shape == (32, 1, 3, 3)
    with torch.inference_mode():
        seen = set()
        for seed in range(1000):
            member = method.family.draw(NETAUG.width, NETAUG.expand, seed)
            method.family.activate(member)
            seen.add(member)
            assert method.network(IMAGES[:1, :, ::2, ::2]).shape == (1, 10)
    assert len(seen) > 200  # of 3**3 * 2**3


@pytest.mark.parametrize("name", NETWORKS)
def test_the_exported_network_is_the_tiny_slice_exactly(name):
    method = make_netaug(name)
    method.network.float().eval()
    tiny = method.family.tiny_network().float().eval()
    plain = NETWORKS[name]()
    assert {key: tensor.shape for key, tensor in tiny.state_dict().items()} == {
        key: tensor.shape for key, tensor in plain.state_dict().items()
    }
    assert {type(module) for module in tiny.modules()} == {type(module) for module in plain.modules()}
    method.family.activate(method.family.tiny)
    with torch.inference_mode():
        expected = method.network(IMAGES.float())
        assert torch.equal(tiny(IMAGES.float()), expected)
        for key, tensor in method.network.state_dict().items():
            if tensor.ndim:
                inside = tensor[tuple(slice(n) for n in tiny.state_dict()[key].shape)].clone()
                tensor.mul_(-3).add_(1e6)
                tensor[tuple(slice(n) for n in inside.shape)] = inside
        assert torch.equal(method.network(IMAGES.float()), expected), "channels beyond must not be read"
    method.set_tiny(plain)
    copied = method.family.tiny_network().state_dict()
    assert all(torch.equal(tensor, copied[key]) for key, tensor in plain.state_dict().items())


@pytest.mark.parametrize("name", NETWORKS)
def test_sorting_keeps_the_full_function_and_orders_what_is_hidden(name):
    method = make_netaug(name)
    full = method.network.eval()
    optimizer = make_optimizer(full, TRAIN)
    for parameter in full.parameters():
        optimizer.state[parameter]["momentum_buffer"] = 2 * parameter.detach()
    groups = channel_groups(NETWORKS[name]())
    method.family.activate(method.family.draw((2.0,), (1.6,), 0))
    before = full(IMAGES)
    weights = {key: tensor.clone() for key, tensor in full.state_dict().items()}
    method.family.sort_hidden(optimizer, momentum=True)
    torch.testing.assert_close(full(IMAGES), before, rtol=1e-10, atol=1e-10)
    hidden = {key for group in groups if group.hidden for key, _ in (*group.outputs, *group.inputs)}
    moved = {key for key, tensor in full.state_dict().items() if not torch.equal(tensor, weights[key])}
    assert moved == hidden
    for group in groups:
        if group.hidden:
            sums = [full.state_dict()[key].abs().sum((0, 2, 3)) for key, _ in group.inputs]
            assert torch.equal(sum(sums), torch.stack(sums).sum(0).sort(descending=True).values)
    for parameter in full.parameters():
        assert torch.equal(optimizer.state[parameter]["momentum_buffer"], 2 * parameter)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_gives_every_parameter_the_sum_of_both_gradients(name):
    method = make_netaug(name)
    full = method.network.eval()  # without dropout
    totals = {key: torch.zeros_like(p) for key, p in full.named_parameters()}
    for member in (method.family.tiny, method.drawn(0, 3)):
        family = GraphFamily(NETWORKS[name](), channel_groups(NETWORKS[name]()), NETAUG.width, NETAUG.expand)
        family.network.load_state_dict(full.state_dict())
        family.network.double().eval()
        family.activate(member)
        loss(family.network(IMAGES)).backward()
        for key, parameter in family.network.named_parameters():
            totals[key] += parameter.grad
    method.backward(IMAGES, loss, 0, 3)
    for key, parameter in full.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, totals[key], rtol=1e-9, atol=1e-9)


def test_resnet8_trains_with_netaug(tmp_path):
    model = ModelConfig(name="resnet8")
    train = TRAIN.model_copy(
        update={"method": "netaug", "epochs": 2, "netaug": NETAUG.model_copy(update={"width": (1.0, 1.25)})}
    )
    result = trainer.train(DATA.model_copy(update={"train_limit": 256}), model, train, tmp_path)
    saved, _ = load_network(tmp_path)
    assert list(saved.state_dict()) == list(resnet8().state_dict())
    assert result.parameters == count(resnet8(), (1, 8, 8)).parameters
    assert result.train_accuracy > 0.12


@pytest.mark.parametrize("method", ["netaug", "netbooster", "netbooster_netaug"])
def test_a_network_of_ones_own_is_boosted_as_it_is(tmp_path, method):
    if "mixed" not in MODELS.names():
        register_model("mixed")(lambda config, shape, classes: Mixed())
    netbooster = NetBoosterConfig(giant_epochs=1, decay_epochs=1, layers=("branch", "project", "hidden"))
    changes = {"method": method, "epochs": 3, "warmup_epochs": 0, "netaug": NETAUG, "netbooster": netbooster}
    small = DATA.model_copy(update={"train_limit": 128})
    trainer.train(small, ModelConfig(name="mixed"), TRAIN.model_copy(update=changes), tmp_path)
    saved, architecture = load_network(tmp_path)
    assert {type(module) for module in saved.modules()} == {type(module) for module in Mixed().modules()}
    assert list(saved.state_dict()) == list(Mixed().state_dict())
    assert architecture.parameters == sum(p.numel() for p in Mixed().parameters())


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.sum() > 0 else x


def test_a_network_that_cannot_be_traced_is_refused_in_one_line():
    with pytest.raises(ConfigError, match=r"cannot trace Untraceable .*use method plain") as error:
        METHODS.get("netaug")(MethodContext(Untraceable(), MODEL, TRAIN))
    assert "\n" not in str(error.value)
