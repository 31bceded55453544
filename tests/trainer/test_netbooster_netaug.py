"""NetBooster and NetAug together."""

from __future__ import annotations

import pytest
import torch
from interruption import train_until
from safetensors.torch import load_file
from tiny_configs import DATA, MODEL, NETAUG, TRAIN, network, randomise
from torch.nn import functional

import trainer
from common.errors import ConfigError
from trainer.checkpoint import load_network
from trainer.config import ExpansionConfig, ModelConfig, NetBoosterConfig
from trainer.data.memory import MemoryBatches
from trainer.methods import METHODS, MethodContext
from trainer.methods.elastic import slice_into
from trainer.methods.netbooster import ExpandedLayer, contract, expand, set_slope
from trainer.methods.netbooster.giant_file import save_giant
from trainer.methods.netbooster_netaug import NetBoosterNetAug
from trainer.models import InvertedResidualNetwork, build_network
from trainer.optim import make_optimizer

SHORT = TRAIN.model_copy(
    update={
        "method": "netbooster_netaug",
        "epochs": 4,
        "learning_rate": 0.1,
        "netaug": NETAUG,
        "netbooster": NetBoosterConfig(giant_epochs=2, decay_epochs=1, ratio=3),
    }
)
WIDENED = SHORT.model_copy(
    update={"netbooster": SHORT.netbooster.model_copy(update={"netaug_phase": "giant"})}
)
STEPS = 8  # of an epoch: 512 images in batches of 64
IMAGES = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def loss(logits: torch.Tensor, *, augmented: bool = False) -> torch.Tensor:
    return functional.cross_entropy(logits, torch.arange(6)) * (2.0 if augmented else 1.0)


def make(train=SHORT, model=MODEL) -> NetBoosterNetAug:
    plain = build_network(model, (1, 8, 8), 10)
    context = MethodContext(plain, model, train, STEPS, calibration=lambda count: IMAGES[:count].split(3))
    method = METHODS.get("netbooster_netaug")(context)
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


def test_a_widened_giant_computes_what_a_giant_of_its_slice_does():
    """The reference: each member's table as a plain network, expanded, with the first channels' weights."""
    method = make(WIDENED)
    wide = method.network["augmented"].double()
    randomise(wide)
    images = IMAGES.double()
    family = method._augmented.family
    seen = set()
    for seed in range(12):
        table = family.draw(NETAUG.width, NETAUG.expand, seed) if seed else family.tiny
        seen.add(table)
        giant = expand(InvertedResidualNetwork(table), WIDENED.netbooster).double()
        inner = [m for m in giant.modules() if isinstance(m, ExpandedLayer)]
        assert [block[0].out_channels for block in inner] == [3 * block[0].in_channels for block in inner]
        slice_into(giant, wide)
        family.activate(table)
        for training in (True, False):
            wide.train(training)
            torch.testing.assert_close(wide(images), giant.train(training)(images), rtol=1e-9, atol=1e-9)
    assert len(seen) > 10


def test_sorting_keeps_the_function_of_the_widened_giant():
    method = make(WIDENED)
    wide = method.network["augmented"].double().eval()
    randomise(wide)
    optimizer = make_optimizer(method.network, WIDENED)
    family = method._augmented.family
    family.activate(family.network.table)
    before = wide(IMAGES.double())
    weights = {name: tensor.clone() for name, tensor in wide.state_dict().items()}
    method.start_epoch(0, optimizer)
    torch.testing.assert_close(wide(IMAGES.double()), before, rtol=1e-9, atol=1e-9)
    assert any(not torch.equal(tensor, weights[name]) for name, tensor in wide.state_dict().items())


def test_the_giant_alone_is_linearized_after_it_was_widened():
    method = make(WIDENED)
    optimizer = make_optimizer(method.network, WIDENED)
    for epoch, trained in ((0, "augmented"), (2, "giant"), (3, "giant")):
        method.start_epoch(epoch, optimizer)
        if epoch == 2:
            sliced = method._augmented.family.tiny_network().state_dict()
            kept = dict(method.network["giant"].named_parameters())
            assert kept
            assert all(torch.equal(tensor, sliced[name]) for name, tensor in kept.items())
        method.network.train()
        method.network.zero_grad()
        method.backward(IMAGES, loss, epoch, epoch * STEPS)
        assert {
            name.partition(".")[0] for name, p in method.network.named_parameters() if p.grad is not None
        } == {trained}


def test_a_giant_does_not_keep_the_statistics_of_wider_ones():
    """Those of its last BatchNorm are of the features that this one sees, while all before it train."""
    method = make(WIDENED)
    randomise(method.network)
    method.start_epoch(2, make_optimizer(method.network, WIDENED))
    giant = method.network["giant"]
    assert giant.training
    norm = [module for module in giant.modules() if isinstance(module, torch.nn.BatchNorm2d)][-1]
    kept = norm.running_mean.clone()
    features = []
    norm.register_forward_pre_hook(lambda _norm, inputs: features.append(inputs[0]))
    with torch.no_grad():
        for batch in IMAGES.split(3):
            giant(batch)
    expected = torch.stack([batch.mean((0, 2, 3)) for batch in features]).mean(0)
    torch.testing.assert_close(kept, expected, rtol=1e-5, atol=1e-6)


def test_threads_share_the_data_that_the_method_calibrates_on(tmp_path, monkeypatch):
    def refuse(_source: MemoryBatches, _memo: dict[int, object]) -> MemoryBatches:
        raise AssertionError("the data is copied")

    monkeypatch.setattr(MemoryBatches, "__deepcopy__", refuse, raising=False)
    trainer.train(DATA, MODEL, WIDENED.model_copy(update={"workers": 2}), tmp_path)


def test_only_giants_of_inverted_residual_blocks_are_widened():
    with pytest.raises(ConfigError, match=r"model 'ds_cnn' is none: use \"finetuning\""):
        make(WIDENED, ModelConfig(name="ds_cnn"))


@pytest.mark.parametrize("layer", ["blocks.1.depthwise.conv", "blocks.1.project.conv", "classifier"])
def test_layers_that_are_not_widened_are_refused(layer):
    config = WIDENED.netbooster.model_copy(update={"layers": (layer,)})
    with pytest.raises(ConfigError, match=f"does not widen '{layer}': name others"):
        make(WIDENED.model_copy(update={"netbooster": config}))


def test_a_giant_with_lite_residuals_is_not_widened():
    with pytest.raises(ConfigError, match=r"widens no model\.lite_residuals"):
        make(WIDENED, MODEL.model_copy(update={"lite_residuals": True}))


def test_a_giant_that_does_not_train_is_not_widened(tmp_path):
    expansion = ExpansionConfig(ratio=3)
    save_giant(tmp_path, expand(network(), expansion), expansion)
    changes = {"start": "giant", "giant_epochs": None}
    config = WIDENED.netbooster.model_copy(update=changes)
    train = WIDENED.model_copy(update={"netbooster": config, "initial": tmp_path})
    with pytest.raises(ConfigError, match=r"giant_epochs are 0: use \"finetuning\""):
        make(train)
    finetuned = config.model_copy(update={"netaug_phase": "finetuning"})
    make(train.model_copy(update={"netbooster": finetuned}))


@pytest.fixture(scope="module")
def widened(tmp_path_factory):
    folder = tmp_path_factory.mktemp("widened")
    return folder, trainer.train(DATA, MODEL, WIDENED, folder)


@pytest.mark.parametrize("stop", [STEPS + 3, 2 * STEPS + 3], ids=["giant", "decay"])
def test_a_training_with_a_widened_giant_resumes_to_the_same_weights(widened, tmp_path, monkeypatch, stop):
    (whole, result), parts = widened, tmp_path
    interrupted(parts, monkeypatch, stop, WIDENED)
    resumed = trainer.train(DATA, MODEL, WIDENED, parts, resume=True)
    for name in ("model.safetensors", "giant.safetensors"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()
    assert resumed.accuracy == result.accuracy
    saved, _ = load_network(whole)
    assert list(saved.state_dict()) == list(network().state_dict())
    assert trainer.train(DATA, MODEL, WIDENED, parts, resume=True).accuracy == result.accuracy


def interrupted(folder, monkeypatch, stop, train=SHORT) -> None:
    """Train until step `stop`."""
    train_until(stop, monkeypatch, DATA, MODEL, train, folder)


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
    interrupted(tmp_path, monkeypatch, stop)
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
