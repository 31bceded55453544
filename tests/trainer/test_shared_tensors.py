"""Networks in which two names mean one tensor are refused, before they train."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from common.errors import ConfigError
from trainer.config import ExpansionConfig
from trainer.methods.elastic_family import make_family
from trainer.methods.netbooster import expand
from trainer.models import refuse_shared_tensors


class Aliased(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 1)
        self.features = nn.Sequential(self.first, nn.ReLU())


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.second = nn.Linear(2, 2)
        self.second.weight = self.first.weight


@pytest.mark.parametrize(
    ("network", "names"),
    [
        (Aliased(), "first.weight and features.0.weight"),
        (Tied(), "first.weight and second.weight"),
    ],
)
def test_tensors_of_two_names_are_refused(network, names):
    for use in (
        refuse_shared_tensors,
        lambda network: expand(network, ExpansionConfig(layers=("first",))),
        lambda network: make_family(network, (1.0, 2.0), (1.0,)),
    ):
        with pytest.raises(ConfigError, match=f"{names} are one tensor"):
            use(network)


def test_networks_without_memory_are_told_apart():
    with torch.device("meta"):
        refuse_shared_tensors(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
        with pytest.raises(ConfigError, match="are one tensor"):
            refuse_shared_tensors(Tied())


def test_a_layer_may_be_applied_twice():
    layer = nn.Linear(2, 2)
    refuse_shared_tensors(nn.Sequential(layer, nn.ReLU()))
