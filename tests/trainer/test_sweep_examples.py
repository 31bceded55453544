"""Arms of the comparisons in examples/sweeps/ differ in how they train, in nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.config import RunConfig, load_config
from tools.sweep.plan import Plan
from trainer.models import build_network, count

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "sweeps"
SIZES = {  # parameters, MACs
    "cifar10": (11_818, 443_008),
    "cifar10_narrow": (4_774, 249_600),
    "sign_digits": (11_818, 443_008),
}
UNTUNED = {  # arms that take the learning rate of another
    "cifar10": {"kd", "netaug-kd"},
    "cifar10_narrow": {"netbooster-abrupt", "plain-long", "netaug-long", "netbooster-long"},
    "sign_digits": set(),
}
HOW = ("method", "objective", "learning_rate", "distillation", "initial", "netbooster", "seed")


def finals(name: str) -> dict[str, RunConfig]:
    """The configuration of each arm's first seed, by arm."""
    expected = Plan(EXAMPLES / f"{name}.toml", Path("runs") / name, ()).expected
    runs = [run for run in expected if run.stage == "final"]
    return {run.arm: expected[run] for run in reversed(runs)}


@pytest.mark.parametrize("name", SIZES)
def test_every_arm_has_five_seeds_and_a_tuned_learning_rate(name):
    expected = Plan(EXAMPLES / f"{name}.toml", Path("runs") / name, ()).expected
    for arm in {run.arm for run in expected} - {"teacher"}:
        runs = [run for run in expected if run.arm == arm]
        assert len([run for run in runs if run.stage == "final"]) >= 5, arm
        tuned = {expected[run].train.learning_rate for run in runs if run.stage == "tune"}
        assert (len(tuned) < 3) == (arm in UNTUNED[name]), arm
        assert all(expected[run].data.validation > 0 for run in runs if run.stage == "tune")
        assert all(expected[run].data.validation == 0 for run in runs if run.stage == "final")


@pytest.mark.parametrize("name", SIZES)
def test_arms_differ_in_nothing_but_how_they_train(name):
    arms = finals(name)
    arms.pop("teacher", None)
    base = load_config(EXAMPLES / f"{name}_base.toml")
    for arm, config in arms.items():
        assert config.model == base.model, arm
        assert config.data == base.data, arm
        free = {key: getattr(config.train, key) for key in HOW}
        if arm.endswith("-long"):
            free["epochs"] = 4 * base.train.epochs
        assert config.train == base.train.model_copy(update=free), arm


@pytest.mark.parametrize("name", SIZES)
def test_networks_have_the_size_that_is_said(name):
    model = load_config(EXAMPLES / f"{name}_base.toml").model
    cost = count(build_network(model, (3, 32, 32), 10), (3, 32, 32))
    assert (cost.parameters, cost.macs) == SIZES[name]


def test_the_teacher_has_the_size_that_is_said():
    cost = count(build_network(finals("cifar10")["teacher"].model, (3, 32, 32), 10), (3, 32, 32))
    assert (cost.parameters, cost.macs) == (93_690, 3_527_040)
