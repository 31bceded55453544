from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_configs import MODEL, TRAIN, network
from torch import nn

from trainer.config import TrainConfig
from trainer.methods import METHODS, MethodContext
from trainer.optim import learning_rate, make_optimizer
from trainer.seeds import derive_seed


@pytest.mark.parametrize("method", sorted(set(METHODS.names()) - {"tinytl"}))  # which freezes most
def test_norms_and_biases_do_not_decay(method):
    trained = METHODS.get(method)(MethodContext(network(), MODEL, TRAIN)).network
    optimizer = make_optimizer(trained, TRAIN)
    decaying = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    everything = [p for group in optimizer.param_groups for p in group["params"]]
    assert sorted(map(id, everything)) == sorted(map(id, trained.parameters()))
    weights = {id(m.weight) for m in trained.modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert decaying == weights
    assert [group["weight_decay"] for group in optimizer.param_groups] == [4e-5, 0.0]


def test_a_step_is_nesterovs():
    config = TRAIN.model_copy(update={"weight_decay": 0.1, "learning_rate": 0.5, "momentum": 0.8})
    layer = nn.Linear(1, 1)
    nn.init.constant_(layer.weight, 2.0)
    nn.init.constant_(layer.bias, 2.0)
    optimizer = make_optimizer(layer, config)
    weight, bias, weight_momentum, bias_momentum = 2.0, 2.0, 0.0, 0.0
    for gradient in (1.0, -0.5):
        layer.weight.grad, layer.bias.grad = torch.full((1, 1), gradient), torch.full((1,), gradient)
        optimizer.step()
        decayed = gradient + 0.1 * weight
        weight_momentum = 0.8 * weight_momentum + decayed
        weight -= 0.5 * (decayed + 0.8 * weight_momentum)
        bias_momentum = 0.8 * bias_momentum + gradient
        bias -= 0.5 * (gradient + 0.8 * bias_momentum)
        assert layer.weight.item() == pytest.approx(weight)
        assert layer.bias.item() == pytest.approx(bias)


@given(epochs=st.integers(2, 50), warmup=st.integers(0, 5), steps=st.integers(1, 100))
def test_the_rate_rises_linearly_then_falls_to_nearly_zero(epochs, warmup, steps):
    warmup = min(warmup, epochs - 1)
    config = TrainConfig(
        epochs=epochs, warmup_epochs=warmup, learning_rate=0.4, warmup_learning_rate=0.1 if warmup else 0.0
    )
    rates = [learning_rate(config, step, steps) for step in range(epochs * steps)]
    rising, falling = rates[: warmup * steps], rates[warmup * steps :]
    for step, rate in enumerate(rising):
        assert rate == pytest.approx(0.1 + 0.3 * (step + 1) / (warmup * steps))
    assert falling[0] == 0.4
    assert falling == sorted(falling, reverse=True)
    assert rates[-1] > 0
    middle = len(falling) // 2
    if len(falling) % 2 == 0:
        assert falling[middle] == pytest.approx(0.2)


def test_seeds_differ_by_purpose_and_index_and_are_the_same_everywhere():
    seeds = [derive_seed(0, "shuffle", 1), derive_seed(0, "shuffle", 11), derive_seed(0, "step", 1)]
    assert len({*seeds, derive_seed(1, "shuffle", 1)}) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)
