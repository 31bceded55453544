"""The moving average of the weights: what is evaluated and saved with `train.ema`."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from tiny_configs import DATA, MODEL, TRAIN, network, randomise

import trainer
from trainer.average import AVERAGE, WeightAverage, averaged, averaged_tensors
from trainer.config import NetBoosterConfig, TrainConfig
from trainer.methods import METHODS, MethodContext
from trainer.methods.netaug import NetAug
from trainer.methods.netbooster.homotopy import is_linear, set_slope
from trainer.optim import make_optimizer

IMAGES = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def config(**values) -> TrainConfig:
    return TrainConfig.model_validate(TRAIN.model_dump() | values)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_average_follows_its_formula(optimizer):
    plain = network()
    made = make_optimizer(plain, config(optimizer=optimizer))
    average = WeightAverage(made, 0.3)
    expected: dict[str, torch.Tensor] = {}
    for step in range(6):
        for parameter in plain.parameters():
            parameter.grad = torch.ones_like(parameter)
        made.step()
        randomise(plain, seed=step)
        average.update(plain, step)
        decay = min(0.3, (1 + step) / (10 + step))
        for name, tensor in plain.state_dict().items():
            if tensor.is_floating_point():
                before = expected.get(name, tensor.double())
                expected[name] = decay * before + (1 - decay) * tensor.double()
    own = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    with averaged(plain, made):
        seen = {n: t.double() for n, t in plain.state_dict().items() if t.is_floating_point()}
    torch.testing.assert_close(seen, expected, rtol=1e-5, atol=1e-6)
    assert any(name.endswith("running_var") for name in seen)
    assert all(torch.equal(tensor, own[name]) for name, tensor in plain.state_dict().items())


def test_without_decay_nothing_is_kept():
    plain = network()
    optimizer = make_optimizer(plain, config())
    average = WeightAverage(optimizer, 0.0)
    average.update(plain, 0)
    assert not any(AVERAGE in state for state in optimizer.state.values())
    with averaged(plain, optimizer):
        pass


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_layer_may_get_its_first_gradient_later_than_others(optimizer):
    """Stochastic depth leaves layers out of a step; the reference is an optimizer for this layer alone."""
    always, sometimes = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    alone = torch.nn.Linear(2, 2)
    alone.load_state_dict(sometimes.state_dict())
    network = torch.nn.Sequential(always, sometimes)
    made = make_optimizer(network, config(optimizer=optimizer))
    made_alone = make_optimizer(alone, config(optimizer=optimizer))
    average = WeightAverage(made, 0.5)
    for step in range(3):
        made.zero_grad()
        made_alone.zero_grad()
        (network if step else always)(torch.ones(3, 2)).square().sum().backward()
        if step:
            for parameter, other in zip(alone.parameters(), sometimes.parameters(), strict=True):
                parameter.grad = other.grad.clone()
            made_alone.step()
        made.step()
        average.update(network, step)
    for parameter, other in zip(alone.parameters(), sometimes.parameters(), strict=True):
        assert torch.equal(parameter, other)
        assert AVERAGE in made.state[other]


def test_an_error_gives_the_networks_own_weights_back():
    plain = network()
    optimizer = make_optimizer(plain, config())
    WeightAverage(optimizer, 0.9).update(plain, 0)
    randomise(plain)
    own = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    with pytest.raises(KeyboardInterrupt), averaged(plain, optimizer):
        raise KeyboardInterrupt
    assert all(torch.equal(tensor, own[name]) for name, tensor in plain.state_dict().items())


@pytest.mark.parametrize("momentum", [True, False])
def test_sorting_keeps_the_function_of_the_average(momentum):
    train = config(method="netaug", netaug=TRAIN.netaug.model_copy(update={"sort_momentum": momentum}))
    method = NetAug(MethodContext(network(), MODEL, train))
    full = method.network.double().eval()
    optimizer = make_optimizer(full, train)
    average = WeightAverage(optimizer, 0.9)
    for seed in (1, 2):
        randomise(full, seed)
        average.update(full, 1000)
    with averaged(full, optimizer):
        before = full(IMAGES.double())
    kept = [optimizer.state[tensor][AVERAGE].clone() for tensor in averaged_tensors(full)]
    method.start_epoch(0, optimizer)
    with averaged(full, optimizer):
        torch.testing.assert_close(full(IMAGES.double()), before, rtol=1e-10, atol=1e-10)
    moved = [optimizer.state[tensor][AVERAGE] for tensor in averaged_tensors(full)]
    assert not all(torch.equal(a, b) for a, b in zip(kept, moved, strict=True))


def test_slopes_are_not_averaged():
    method = METHODS.get("netbooster")(MethodContext(network(), MODEL, config(method="netbooster")))
    optimizer = make_optimizer(method.network, config())
    average = WeightAverage(optimizer, 0.9)
    average.update(method.network, 0)
    set_slope(method.network, 1.0)
    average.update(method.network, 1)
    with averaged(method.network, optimizer):
        assert is_linear(method.network)


@pytest.mark.parametrize("method", ["netbooster", "netbooster_netaug"])
def test_the_giant_that_is_kept_is_the_average(tmp_path, method):
    booster = NetBoosterConfig(giant_epochs=1, decay_epochs=1, netaug_phase="giant")
    train = config(method=method, ema=0.5, epochs=3, warmup_epochs=0, netbooster=booster)
    plain = network()
    made = METHODS.get(method)(
        MethodContext(plain, MODEL, train, folder=tmp_path, calibration=lambda _count: [IMAGES])
    )
    optimizer = make_optimizer(made.network, train)
    made.start_epoch(0, optimizer)
    average = WeightAverage(optimizer, 0.5)
    for seed in (1, 2):
        randomise(made.network, seed)
        average.update(made.network, 1000)
    with averaged(made.network, optimizer):
        shown = made.tiny_network([IMAGES]).state_dict()
    made.start_epoch(1, optimizer)
    kept = load_file(tmp_path / "giant.safetensors")
    assert kept.keys() == shown.keys()
    assert all(torch.equal(tensor, shown[name]) for name, tensor in kept.items())


@pytest.mark.parametrize("method", ["plain", "netaug", "netbooster"])
def test_the_average_is_what_is_saved(tmp_path, method):
    booster = {"giant_epochs": 2, "decay_epochs": 1}
    train = config(method=method, ema=0.9, netbooster=booster)
    result = trainer.train(DATA, MODEL, train, tmp_path)
    state, saved = load_file(tmp_path / "resume.safetensors"), load_file(tmp_path / "model.safetensors")
    weights = [name for name, tensor in saved.items() if tensor.ndim > 1 and f"{AVERAGE}.{name}" in state]
    assert weights
    for name in weights:
        own, average = (
            state[f"{kind}.{name}"][tuple(slice(n) for n in saved[name].shape)]
            for kind in ("network", AVERAGE)
        )
        assert torch.equal(saved[name], average)
        assert not torch.equal(saved[name], own)
    rows = (tmp_path / "log.csv").read_text().splitlines()
    assert float(rows[-1].split(",")[5]) == result.accuracy
