"""NetBooster and NetAug together."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from tiny_configs import DATA, MODEL, NETAUG, TRAIN, network, randomise
from torch.nn import functional

import trainer
from trainer.checkpoint import load_network
from trainer.config import ModelConfig, NetBoosterConfig
from trainer.methods import METHODS, MethodContext
from trainer.methods.netbooster import contract, set_slope
from trainer.methods.netbooster_netaug import NetBoosterNetAug
from trainer.models import build_network
from trainer.optim import make_optimizer
from trainer.seeds import derive_seed

SHORT = TRAIN.model_copy(
    update={
        "method": "netbooster_netaug",
        "epochs": 4,
        "learning_rate": 0.1,
        "netaug": NETAUG,
        "netbooster": NetBoosterConfig(giant_epochs=2, decay_epochs=1, ratio=3),
    }
)
STEPS = 8  # of an epoch: 512 images in batches of 64
IMAGES = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def loss(logits: torch.Tensor, *, augmented: bool = False) -> torch.Tensor:
    return functional.cross_entropy(logits, torch.arange(6)) * (2.0 if augmented else 1.0)


def make(train=SHORT, model=MODEL) -> NetBoosterNetAug:
    plain = build_network(model, (1, 8, 8), 10)
    method = METHODS.get("netbooster_netaug")(MethodContext(plain, model, train, STEPS))
    assert isinstance(method, NetBoosterNetAug)
    return method


@pytest.mark.parametrize("model", [MODEL, ModelConfig(name="ds_cnn")], ids=["table", "graph"])
def test_the_wrapped_tiny_output_is_the_contracted_output(model):
    method = make(model=model)
    giant, augmented = method.network["giant"], method.network["augmented"]
    randomise(giant)
    method.start_epoch(3, make_optimizer(method.network, SHORT))
    contracted = contract(giant)
    tiny = method._augmented.family
    tiny.activate(tiny.tiny)
    augmented.eval()
    with torch.inference_mode():
        assert torch.equal(augmented(IMAGES), contracted(IMAGES))
        set_slope(giant, 1.0)
        expected = giant.eval()(IMAGES)
        torch.testing.assert_close(augmented(IMAGES), expected, rtol=1e-4, atol=1e-4 * expected.abs().max())


def test_one_network_trains_at_a_time():
    method = make()
    optimizer = make_optimizer(method.network, SHORT)
    for epoch, step, trained in ((0, 0, "giant"), (2, 2 * STEPS, "giant"), (3, 3 * STEPS, "augmented")):
        method.start_epoch(epoch, optimizer)
        method.network.train()
        method.network.zero_grad()
        method.backward(IMAGES, loss, epoch, step)
        before = {name: p.detach().clone() for name, p in method.network.named_parameters()}
        optimizer.step()
        moved = {name for name, p in method.network.named_parameters() if not torch.equal(p, before[name])}
        assert {name.partition(".")[0] for name in moved} == {trained}


def test_trained_channels_are_not_sorted_away():
    method = make()
    optimizer = make_optimizer(method.network, SHORT)
    method.start_epoch(3, optimizer)
    tiny = contract(method.network["giant"]).state_dict()
    kept = method._augmented.family.tiny_network().state_dict()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in tiny.items())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("both")
    return folder, trainer.train(DATA, MODEL, SHORT, folder)


def test_the_saved_network_has_the_plain_architecture(trained):
    folder, result = trained
    saved, architecture = load_network(folder)
    assert list(saved.state_dict()) == list(network().state_dict())
    assert result.parameters == architecture.parameters
    assert result.train_accuracy > 0.2
    assert (folder / "giant.safetensors").is_file()


@pytest.mark.parametrize("stop", [2 * STEPS + 3, 3 * STEPS + 3], ids=["decay", "finetuning"])
def test_a_stopped_training_resumes_to_the_same_weights(trained, tmp_path, monkeypatch, stop):
    whole, result = trained

    def interrupt(seed, purpose, *indices):
        if (purpose, *indices[:1]) == ("step", stop):
            raise KeyboardInterrupt
        return derive_seed(seed, purpose, *indices)

    with monkeypatch.context() as patch:
        patch.setattr("trainer.loop.derive_seed", interrupt)
        with pytest.raises(KeyboardInterrupt):
            trainer.train(DATA, MODEL, SHORT, tmp_path)
    trainer.train(DATA, MODEL, SHORT, tmp_path, resume=True)
    name = "resume.safetensors"
    states = [load_file(folder / name) for folder in (whole, tmp_path)]
    assert states[0].keys() == states[1].keys()
    assert all(tensor.equal(states[1][key]) for key, tensor in states[0].items())
    name = "model.safetensors"
    assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()
    finished = trainer.train(DATA, MODEL, SHORT, tmp_path, resume=True)
    assert finished.accuracy == result.accuracy


def test_threads_adam_averages_and_dropped_features_go_with_it(tmp_path):
    changes = {
        **{"optimizer": "adam", "learning_rate": 0.003, "workers": 2, "ema": 0.9},
        "regularisation": SHORT.regularisation.model_copy(update={"dropout": 0.1}),
    }
    result = trainer.train(DATA, MODEL, SHORT.model_copy(update=changes), tmp_path)
    saved, _ = load_network(tmp_path)
    assert list(saved.state_dict()) == list(network().state_dict())
    assert result.train_accuracy > 0.15
