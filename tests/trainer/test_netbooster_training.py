from __future__ import annotations

import csv
import logging
import math

import pytest
import torch
from interruption import train_until
from safetensors.torch import load_file
from tiny_configs import DATA, MODEL, TRAIN, network
from torch import nn
from torch.nn import functional

import trainer
from common.errors import ConfigError
from trainer.checkpoint import load_network
from trainer.config import NetBoosterConfig, TrainConfig
from trainer.methods import MethodContext
from trainer.methods.netbooster import NetBooster, set_slope
from trainer.methods.netbooster.contraction import ContractionError
from trainer.methods.netbooster.expansion import ExpandedLayer
from trainer.optim import Restart, learning_rate, make_optimizer

NETBOOSTER = NetBoosterConfig(giant_epochs=2, decay_epochs=2, plt_learning_rate=0.05)
SHORT = TRAIN.model_copy(update={"method": "netbooster", "epochs": 5, "netbooster": NETBOOSTER})
STEPS = 8  # of an epoch: 512 images in batches of 64


def make(train: TrainConfig = SHORT, **netbooster: object) -> NetBooster:
    config = NetBoosterConfig.model_validate(train.netbooster.model_dump() | netbooster)
    return NetBooster(MethodContext(network(), MODEL, train.model_copy(update={"netbooster": config}), STEPS))


def slopes(module: nn.Module) -> set[float]:
    return {value.item() for name, value in module.state_dict().items() if name.endswith(".slope")}


def rate(method: NetBooster, step: int) -> float:
    return learning_rate(SHORT, step, STEPS, method.restarts)


def test_the_default_phases_are_the_papers():
    method = make(
        TRAIN.model_copy(update={"epochs": 310}), giant_epochs=None, decay_epochs=None, plt_learning_rate=None
    )
    assert method.restarts == (Restart(160, SHORT.learning_rate),)
    assert [method.slope(epoch * STEPS) for epoch in (0, 160, 180, 200, 309)] == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert method.slope(200 * STEPS - 1) == 1 - 1 / (40 * STEPS)


def test_the_learning_rate_starts_anew_with_the_decay():
    method = make()
    assert rate(method, STEPS) == SHORT.learning_rate
    assert 0 < rate(method, 2 * STEPS - 1) < 0.02
    assert rate(method, 2 * STEPS) == 0.05
    cosine = [0.05 * (1 + math.cos(math.pi * step / (3 * STEPS))) / 2 for step in range(3 * STEPS)]
    assert [rate(method, 2 * STEPS + step) for step in range(3 * STEPS)] == pytest.approx(cosine)


def test_a_step_sets_the_slope_from_its_number_alone():
    images = torch.randn(4, 1, 8, 8)

    def loss(logits: torch.Tensor, *, augmented: bool = False) -> torch.Tensor:
        return functional.cross_entropy(logits, torch.tensor([0, 1, 2, 3]))

    method = make()
    for step, expected in ((0, 0.0), (2 * STEPS + 3, 3 / 16), (5, 0.0), (4 * STEPS, 1.0)):
        method.backward(images, loss, step // STEPS, step)
        assert slopes(method.network) == {expected}


def test_without_decay_epochs_the_activations_vanish_at_once():
    method = make(decay_epochs=0)
    assert (method.slope(2 * STEPS - 1), method.slope(2 * STEPS)) == (0.0, 1.0)


def test_the_giant_is_evaluated_until_it_is_linear():
    method = make()
    before = method.tiny_network([])
    assert any(isinstance(module, ExpandedLayer) for module in before.modules())
    assert not before.training
    assert before is not method.network
    set_slope(method.network, 1.0)
    after = method.tiny_network([])
    assert list(after.state_dict()) == list(network().state_dict())


@pytest.mark.parametrize(
    ("train", "netbooster", "message"),
    [
        ({"epochs": 4}, {}, "2 giant_epochs and 2 decay_epochs leave none of train.epochs 4"),
        ({"epochs": 2}, {"giant_epochs": None, "decay_epochs": None}, "leave none of train.epochs 2"),
        ({"warmup_epochs": 2}, {}, "train.warmup_epochs 2 must be less than the 2 giant_epochs"),
        ({}, {"layers": ("nowhere",)}, "the network has no layer 'nowhere'"),
    ],
)
def test_phases_that_do_not_fit_are_refused(train, netbooster, message):
    with pytest.raises(ConfigError) as error:
        make(SHORT.model_copy(update=train), **netbooster)
    assert message in str(error.value)


class NormsInAnotherOrder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, 8, 3, padding=1, bias=False) for width in (1, 8))
        self.norm1, self.norm2 = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.classifier = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm1(self.conv1(x)))
        return self.classifier(torch.relu(self.norm2(self.conv2(x))).mean((2, 3)))


def test_what_cannot_be_contracted_is_refused_before_the_first_step():
    config = NETBOOSTER.model_copy(update={"layers": ("conv2",), "activation": "relu"})
    images = torch.randn(4, 1, 8, 8)
    context = MethodContext(
        NormsInAnotherOrder(),
        MODEL,
        SHORT.model_copy(update={"netbooster": config}),
        STEPS,
        calibration=lambda _count: [images],
    )
    with pytest.raises(ContractionError, match="registered right behind their convolutions"):
        NetBooster(context)


def test_slopes_are_not_in_the_optimizer():
    method = make()
    optimizer = make_optimizer(method.network, SHORT)
    values = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in values} == {id(p) for p in method.network.parameters()}
    assert not any(p.ndim == 0 for p in values)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished training, its result and log messages."""
    folder = tmp_path_factory.mktemp("netbooster")
    messages: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler, log = Collect(), logging.getLogger("trainer")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        return folder, trainer.train(DATA, MODEL, SHORT, folder), messages
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def test_what_is_saved_is_the_plain_architecture(trained):
    folder, result, _ = trained
    saved, architecture = load_network(folder)
    assert list(saved.state_dict()) == list(network().state_dict())
    assert sum(p.numel() for p in saved.parameters()) == architecture.parameters == result.parameters
    with (folder / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["accuracy"]) == result.accuracy
    assert [row["phase"] for row in rows] == ["giant", "giant", "decay", "decay", "finetuning"]
    state = load_file(folder / "resume.safetensors")
    assert {tensor.item() for name, tensor in state.items() if name.endswith(".slope")} == {1.0}


def test_the_log_says_whose_accuracy_is_reported(trained):
    _, _, messages = trained
    said = [message for message in messages if message.startswith("netbooster: ")]
    assert len(said) == 3
    assert "training the giant; until epoch 4, accuracies are the giant's" in said[0]
    assert "activations decay; until epoch 4, accuracies are the giant's" in said[1]
    assert "from now on, accuracies are the contracted network's" in said[2]


@pytest.mark.parametrize(
    "stop", [2 * STEPS + 5, 3 * STEPS + 5, 4 * STEPS + 1], ids=["start", "middle", "end"]
)
def test_a_training_stopped_while_slopes_decay_resumes_to_the_same_weights(
    trained, tmp_path, monkeypatch, stop
):
    whole, result, _ = trained
    train_until(stop, monkeypatch, DATA, MODEL, SHORT, tmp_path)
    state = load_file(tmp_path / "resume.safetensors")
    last = stop // STEPS * STEPS - 1
    assert {tensor.item() for name, tensor in state.items() if name.endswith(".slope")} == {
        max(0, last - 2 * STEPS) / (2 * STEPS)
    }
    resumed = trainer.train(DATA, MODEL, SHORT, tmp_path, resume=True)
    assert (tmp_path / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    finished = [load_file(folder / "resume.safetensors") for folder in (whole, tmp_path)]
    assert finished[0].keys() == finished[1].keys()
    assert all(tensor.equal(finished[1][name]) for name, tensor in finished[0].items())
    assert resumed.accuracy == result.accuracy


def test_worker_threads_decay_as_well_and_the_network_learns(tmp_path):
    train = SHORT.model_copy(
        update={
            "workers": 2,
            "epochs": 4,
            "batch_size": 32,
            "learning_rate": 0.3,
            "netbooster": NetBoosterConfig(giant_epochs=2, decay_epochs=1),
        }
    )
    result = trainer.train(DATA.model_copy(update={"train_limit": None}), MODEL, train, tmp_path)
    saved, _ = load_network(tmp_path)
    assert list(saved.state_dict()) == list(network().state_dict())
    assert result.accuracy > 0.5
