from __future__ import annotations

import copy

import pytest
import torch
from tiny_configs import DATA, MODEL, TRAIN, network, randomise
from torch import Tensor
from torch.nn import functional

import trainer
from common.errors import ConfigError
from trainer.checkpoint import load_network
from trainer.config import ModelConfig, RocketLaunchConfig, TrainConfig
from trainer.data.batches import Batch
from trainer.methods import METHODS, MethodContext
from trainer.methods.rocket_launch import Rocket, RocketLaunch, booster_table
from trainer.models import InvertedResidualNetwork, build_network
from trainer.models.stages import squeeze_channels
from trainer.objectives import BatchLoss

SIZE = 12
IMAGES = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
LABELS = torch.arange(8) % 10


def config(**values) -> TrainConfig:
    rocket = RocketLaunchConfig(**{"width": 2.0, "hint": 0.3} | values)
    return TRAIN.model_copy(update={"method": "rocket_launch", "batch_size": SIZE, "rocket_launch": rocket})


def make(**values) -> RocketLaunch:
    made = METHODS.get("rocket_launch")(MethodContext(network(), MODEL, config(**values)))
    assert isinstance(made, RocketLaunch)
    randomise(made.network)
    made.network.double().train()
    return made


def loss(outputs: Tensor, *, augmented: bool = False) -> Tensor:
    return functional.cross_entropy(outputs, LABELS, reduction="sum") / SIZE


def gradients(method: RocketLaunch, with_loss: BatchLoss = loss) -> dict[str, Tensor]:
    method.network.zero_grad()
    method.backward(IMAGES, with_loss, 0, 0)
    return {name: p.grad.clone() for name, p in method.network.named_parameters()}


@pytest.mark.parametrize("shared", [0.0, 0.5, 0.8])
def test_the_booster_goes_on_from_the_shared_blocks(shared):
    method = make(shared=shared)
    rocket = method.network
    count = int(shared * 5)
    x = rocket.light.stem(IMAGES)
    for block in rocket.light.blocks[:count]:
        x = block(x)
    rocket.eval()
    x = rocket.light.stem(IMAGES)
    for block in rocket.light.blocks[:count]:
        x = block(x)
    boosted = x
    for block in rocket.light.blocks[count:]:
        x = block(x)
    for block in rocket.booster.blocks:
        boosted = block(boosted)
    expected = [
        net.classifier(net.last(features).mean(dim=(2, 3)))
        for net, features in ((rocket.light, x), (rocket.booster, boosted))
    ]
    for ours, wanted in zip(rocket(IMAGES), expected, strict=True):
        torch.testing.assert_close(ours, wanted)
    torch.testing.assert_close(rocket.light(IMAGES), expected[0])
    assert not any(module._forward_hooks for module in rocket.modules())


def test_the_gradient_is_that_of_both_losses_and_a_hint_that_the_booster_does_not_feel():
    method = make(shared=0.5)
    ours = gradients(method)
    other = make(shared=0.5)
    other.network.load_state_dict(copy.deepcopy(method.network.state_dict()))
    rocket = other.network
    light, booster = rocket(IMAGES)
    parameters = dict(rocket.named_parameters())

    def grads(value: Tensor) -> dict[str, Tensor]:
        found = torch.autograd.grad(value, parameters.values(), retain_graph=True, allow_unused=True)
        return {
            name: torch.zeros_like(p) if g is None else g
            for (name, p), g in zip(parameters.items(), found, strict=True)
        }

    blocked = booster.detach()
    parts = [
        grads(functional.cross_entropy(light, LABELS, reduction="sum") / SIZE),
        grads(functional.cross_entropy(booster, LABELS, reduction="sum") / SIZE),
        grads(0.3 * ((light - blocked) ** 2).sum() / SIZE),
    ]
    for name, gradient in ours.items():
        expected = sum(part[name] for part in parts)
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
    assert all(not part.any() for name, part in parts[2].items() if name.startswith("booster."))
    assert parts[2]["light.stem.conv.weight"].any(), "shared layers learn from the hint through the light net"
    assert parts[1]["light.stem.conv.weight"].any(), "and from the booster's labels"
    assert not parts[1]["light.classifier.weight"].any()


def test_shared_layers_are_normalised_once_a_step():
    method = make(shared=0.5)
    gradients(method)
    norm = method.network.light.stem.norm
    assert int(norm.num_batches_tracked) == 1
    assert int(method.network.booster.last.norm.num_batches_tracked) == 1


def test_the_booster_counts_as_augmented_and_the_light_nets_result_is_reported():
    method = make()
    seen = []

    def spy(outputs: Tensor, *, augmented: bool = False) -> Tensor:
        seen.append(augmented)
        return loss(outputs)

    method.network.zero_grad()
    light, _ = copy.deepcopy(method.network)(IMAGES)
    result = method.backward(IMAGES, spy, 0, 0)
    assert seen == [False, True]
    torch.testing.assert_close(result.outputs, light.detach())
    torch.testing.assert_close(result.loss, loss(light).detach())


@pytest.mark.parametrize("name", ["mobilenet_v2_tiny", "mobilenet_v3_large", "mcunet", "proxyless_mobile"])
@pytest.mark.parametrize("depth", [1, 3])
def test_boosters_of_the_zoo_are_wider_behind_the_shared_blocks(name, depth):
    plain = build_network(ModelConfig(name=name), (3, 64, 64), 10)
    assert isinstance(plain, InvertedResidualNetwork)
    table = plain.table
    shared = len(table.blocks) // 2
    settings = RocketLaunchConfig(width=2.0, depth=depth)
    wide = booster_table(table, shared, settings)
    shortcuts = sum(row.shortcut for row in table.blocks[shared:])
    assert len(wide.blocks) == len(table.blocks) + shortcuts * (depth - 1)
    assert wide.blocks[:shared] == table.blocks[:shared]
    for before, row in zip(wide.blocks, wide.blocks[1:], strict=False):
        assert row.in_channels == before.out_channels
        assert not row.shortcut or row.in_channels == row.out_channels
        assert row.squeeze == (squeeze_channels(row.hidden) if row.squeeze else 0)
    assert wide.blocks[-1].out_channels == 2 * table.blocks[-1].out_channels
    assert wide.last_channels == 2 * table.last_channels
    rocket = Rocket(plain, InvertedResidualNetwork(wide), shared).eval()
    with torch.no_grad():
        light, booster = rocket(torch.randn(2, 3, 64, 64))
    assert light.shape == booster.shape == (2, 10)


def test_other_networks_and_scaled_losses_are_refused():
    model = ModelConfig(name="resnet8")
    plain = build_network(model, (3, 32, 32), 10)
    with pytest.raises(ConfigError, match="rocket_launch takes networks of inverted residual blocks"):
        METHODS.get("rocket_launch")(MethodContext(plain, model, config()))
    half = TrainConfig.model_validate(config().model_dump() | {"precision": "float16"})
    with pytest.raises(ConfigError, match="bfloat16"):
        METHODS.get("rocket_launch")(MethodContext(network(), MODEL, half))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_light_network_is_trained_and_saved(tmp_path, workers):
    train = TrainConfig.model_validate(
        TRAIN.model_dump() | {"method": "rocket_launch", "epochs": 3, "workers": workers}
    )
    data = DATA.model_copy(update={"train_limit": 256})
    for name in ("a", "b"):
        trainer.train(data, MODEL, train, tmp_path / name)
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]
    saved, architecture = load_network(tmp_path / "a")
    assert isinstance(saved, InvertedResidualNetwork)
    assert architecture.parameters == sum(p.numel() for p in network().parameters())


def test_parts_add_up_to_the_step_of_the_whole(tmp_path):
    method = make()
    method.network.eval()  # so that parts are not normalised by themselves
    whole = gradients(method)
    total = {name: torch.zeros_like(gradient) for name, gradient in whole.items()}
    for part in Batch(IMAGES, LABELS).split(2):
        method.network.zero_grad()

        def share(outputs: Tensor, *, augmented: bool = False, labels: Tensor = part.labels) -> Tensor:
            return functional.cross_entropy(outputs, labels, reduction="sum") / SIZE

        method.backward(part.images, share, 0, 0)
        for name, parameter in method.network.named_parameters():
            total[name] += parameter.grad
    for name, gradient in whole.items():
        torch.testing.assert_close(total[name], gradient)
