"""Training that starts from the weights of an earlier one."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from interruption import train_until
from safetensors.torch import load_file
from tiny_configs import DATA, MODEL, NETAUG, TRAIN, network, randomise
from torch import nn

import trainer
from common.errors import ConfigError
from trainer.checkpoint import load_network
from trainer.config import DataConfig, DetectorConfig, ExpansionConfig, ModelConfig, NetBoosterConfig
from trainer.detection.network import build_detector
from trainer.methods import METHODS, MethodContext
from trainer.methods.initial import start_from
from trainer.methods.netaug import NetAug
from trainer.methods.netbooster import NetBooster, contract, expand, set_slope
from trainer.methods.netbooster.giant_file import save_giant, start_giant
from trainer.models import build_network
from trainer.optim import learning_rate

SHORT = TRAIN.model_copy(update={"epochs": 2})
BOOSTED = TRAIN.model_copy(
    update={
        "method": "netbooster",
        "epochs": 4,
        "netbooster": NetBoosterConfig(giant_epochs=2, decay_epochs=1, ratio=3),
    }
)
DOWNSTREAM = TRAIN.model_copy(
    update={
        "method": "netbooster",
        "epochs": 5,
        "batch_size": 16,
        "warmup_epochs": 0,
        "netbooster": NetBoosterConfig(start="giant", ratio=3, decay_share=0.4),
    }
)
HEAD = DetectorConfig(widths=(8, 8, 8))
STEPS = 4  # of a downstream epoch: 64 images in batches of 16


def starting(train, folder):
    return train.model_copy(update={"initial": folder})


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    trainer.train(DATA, MODEL, BOOSTED, folder)
    return folder


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """Another dataset: 4 classes, told apart by which quarter of the image is bright."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 96)
    images = generator.integers(0, 100, (96, 8, 8, 1)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 120
    path: Path = tmp_path_factory.mktemp("target") / "quarters.npz"
    arrays = {"train_images": images[:64], "train_labels": labels[:64]}
    np.savez(path, **arrays, test_images=images[64:], test_labels=labels[64:])
    return DataConfig(name="npz", path=path)


def context(train, classes=4, **changes):
    return MethodContext(build_network(MODEL, (1, 8, 8), classes), MODEL, train, STEPS, **changes)


def test_fitting_weights_are_loaded_and_the_classifier_starts_anew(pretrained, caplog):
    plain = build_network(MODEL, (1, 8, 8), 4)
    with caplog.at_level(logging.INFO):
        start_from(plain, pretrained / "model.safetensors", 0)
    saved = load_file(pretrained / "model.safetensors")
    for name, tensor in plain.state_dict().items():
        assert name.startswith("classifier") or torch.equal(tensor, saved[name]), name
    bound = plain.classifier.in_features**-0.5  # of PyTorch's uniform default
    assert plain.classifier.weight.abs().max() <= bound
    assert plain.classifier.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.2)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1
    assert messages[0].endswith("; not there, or of another shape: classifier.weight, classifier.bias")
    assert "\n" not in messages[0]


def test_the_new_classifier_depends_on_the_seed_alone(pretrained):
    plain = build_network(MODEL, (1, 8, 8), 4)

    def classifier(seed: int) -> torch.Tensor:
        start_from(plain, pretrained / "model.safetensors", seed)
        return plain.classifier.weight.detach().clone()

    state = torch.get_rng_state()
    first = classifier(0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    assert torch.equal(classifier(0), first)
    assert not torch.equal(classifier(1), first)


def test_a_classifier_of_the_same_classes_is_kept(pretrained):
    plain = network()
    start_from(plain, pretrained / "model.safetensors", 0)
    saved, _ = load_network(pretrained)
    assert all(torch.equal(tensor, saved.state_dict()[name]) for name, tensor in plain.state_dict().items())


def test_another_network_is_refused_even_if_its_classifier_fits(pretrained):
    other = network(MODEL.model_copy(update={"width_multiplier": 2.0}))
    assert other.classifier.weight.shape == network().classifier.weight.shape
    with pytest.raises(ConfigError, match=r"fits the network in 6 of 82 tensors: was it trained with ano"):
        start_from(other, pretrained / "model.safetensors", 0)


def test_another_shape_than_the_classifiers_is_a_warning(pretrained, caplog):
    start_from(network(MODEL.model_copy(update={"last_channels": 32})), pretrained / "model.safetensors", 0)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert ": 76 of 82 tensors; not there, or of another shape: last.conv.weight" in caplog.text


def test_new_parts_of_a_network_are_no_warning(pretrained, caplog):
    lite = network(MODEL.model_copy(update={"lite_residuals": True}))
    start_from(lite, pretrained / "model.safetensors", 0)
    assert caplog.records == []


def test_a_detector_takes_its_backbone_from_a_classifier(pretrained):
    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = network()
            self.head = nn.Conv2d(24, 3, 1)

    detector = Detector()
    start_from(detector, pretrained / "model.safetensors", 0)
    saved = load_file(pretrained / "model.safetensors")
    assert all(torch.equal(tensor, saved[name]) for name, tensor in detector.backbone.state_dict().items())


def test_netaug_starts_from_trained_weights_in_the_first_channels(pretrained):
    saved, _ = load_network(pretrained)
    method = METHODS.get("netaug")(context(starting(SHORT, pretrained), classes=10))
    assert isinstance(method, NetAug)
    tiny = method.family.tiny_network()
    assert all(torch.equal(tensor, tiny.state_dict()[name]) for name, tensor in saved.state_dict().items())
    images = torch.randn(3, 1, 8, 8)
    with torch.inference_mode():
        assert torch.equal(tiny.eval()(images), saved(images))


def test_netaug_does_not_sort_trained_channels_away_unless_told_to(pretrained):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)])

    def sorts(**changes: object) -> bool:
        netaug = NETAUG.model_copy(update=changes)
        method = NetAug(context(starting(SHORT, pretrained).model_copy(update={"netaug": netaug})))
        before = {name: tensor.clone() for name, tensor in method.network.state_dict().items()}
        method.start_epoch(0, optimizer)
        return any(not torch.equal(t, before[name]) for name, t in method.network.state_dict().items())

    assert not sorts()
    assert sorts(sort=True)


def test_netbooster_takes_what_it_does_not_expand_from_a_tiny_network(pretrained, caplog):
    saved = load_file(pretrained / "model.safetensors")
    with caplog.at_level(logging.INFO):
        method = NetBooster(context(starting(BOOSTED, pretrained), classes=10))
    giant = method.network.state_dict()
    kept = saved.keys() & giant.keys()
    assert len(saved.keys() - kept) == 2  # the expanded convolutions
    assert all(torch.equal(giant[name], saved[name]) for name in kept)
    assert " more" in caplog.text


@pytest.mark.parametrize("method", ["plain", "netaug", "netbooster"])
def test_a_trained_network_is_finetuned_on_another_dataset(pretrained, target, tmp_path, method):
    train = starting(DOWNSTREAM, pretrained).model_copy(
        update={"method": method, "learning_rate": 0.1, "netaug": NETAUG}
    )
    result = trainer.train(target, MODEL, train, tmp_path)
    saved, architecture = load_network(tmp_path)
    assert list(saved.state_dict()) == list(network().state_dict())
    assert len(architecture.class_names) == 4
    assert result.accuracy > 0.7


def test_the_giant_is_kept_as_it_was_before_its_activations_decay(pretrained):
    giant = load_file(pretrained / "giant.safetensors")
    assert {t.item() for name, t in giant.items() if name.endswith(".slope")} == {0.0}
    method = NetBooster(context(starting(DOWNSTREAM, pretrained)))
    state = method.network.state_dict()
    assert giant.keys() == state.keys()
    others = [name for name in giant if not name.startswith("classifier")]
    assert all(torch.equal(state[name], giant[name]) for name in others)


def test_giant_files_of_resumed_trainings_are_the_same(pretrained, tmp_path, monkeypatch):
    train_until(2 * 8 + 3, monkeypatch, DATA, MODEL, BOOSTED, tmp_path)
    (tmp_path / "giant.safetensors").unlink()
    trainer.train(DATA, MODEL, BOOSTED, tmp_path, resume=True)
    name = "giant.safetensors"
    assert (tmp_path / name).read_bytes() == (pretrained / name).read_bytes()


def test_a_detector_starts_from_the_giant_of_a_classifier(tmp_path):
    model, expansion = ModelConfig(name="mobilenet_v2_tiny"), ExpansionConfig()
    classifier = expand(build_network(model, (3, 64, 64), 10), expansion)
    save_giant(tmp_path, classifier, expansion)
    detector = expand(build_detector(model.model_copy(update={"detector": HEAD}), (3, 64, 64), 3), expansion)
    start_giant(detector, expansion, starting(DOWNSTREAM, tmp_path))
    saved = classifier.state_dict()
    loaded = {name: t for name, t in detector.state_dict().items() if name.startswith("backbone.")}
    assert sum(".expand.conv.0.weight" in name for name in loaded) == 8
    assert all(torch.equal(t, saved[name.removeprefix("backbone.")]) for name, t in loaded.items())


def test_a_giant_with_other_layers_expanded_is_refused(tmp_path):
    expansion = ExpansionConfig()
    save_giant(tmp_path, expand(network(), expansion), expansion)
    assert MODEL.stages is not None
    deeper = MODEL.stages[-1].model_copy(update={"blocks": 4})
    other = network(MODEL.model_copy(update={"stages": (*MODEL.stages[:-1], deeper)}))
    with pytest.raises(ConfigError, match=r"has no blocks\.\d+\.expand\.conv\..*other layers expanded"):
        start_giant(expand(other, expansion), expansion, starting(DOWNSTREAM, tmp_path))


def test_downstream_linearization_takes_its_share_of_the_epochs(pretrained):
    def slopes(**changes: object) -> list[float]:
        config = NetBoosterConfig.model_validate(DOWNSTREAM.netbooster.model_dump() | changes)
        train = starting(DOWNSTREAM, pretrained).model_copy(update={"netbooster": config, "epochs": 10})
        method = NetBooster(context(train))
        assert method.restarts == ()
        assert [learning_rate(train, step, STEPS, method.restarts) for step in (0, 20)] == [0.2, 0.1]
        return [method.slope(step) for step in (0, STEPS, 2 * STEPS, 4 * STEPS)]

    assert slopes(decay_share=None) == [0.0, 0.5, 1.0, 1.0]  # the paper's 20 %
    assert slopes() == [0.0, 0.25, 0.5, 1.0]
    assert slopes(decay_share=0.0) == [1.0] * 4
    assert slopes(decay_share=None, decay_epochs=1) == [0.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("stop", [STEPS + 1, 3 * STEPS + 1], ids=["while slopes decay", "afterwards"])
def test_downstream_linearization_resumes_to_the_same_weights(
    pretrained, target, tmp_path, monkeypatch, stop
):
    train = starting(DOWNSTREAM, pretrained)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    trainer.train(target, MODEL, train, whole)
    train_until(stop, monkeypatch, target, MODEL, train, parts)
    trainer.train(target, MODEL, train, parts, resume=True)
    states = [load_file(folder / "resume.safetensors") for folder in (whole, parts)]
    assert states[0].keys() == states[1].keys()
    assert all(tensor.equal(states[1][name]) for name, tensor in states[0].items())
    assert {t.item() for name, t in states[0].items() if name.endswith(".slope")} == {1.0}
    saved = (whole / "model.safetensors").read_bytes()
    assert (parts / "model.safetensors").read_bytes() == saved
    assert not (whole / "giant.safetensors").exists()


def test_contraction_of_a_downstream_giant_is_exact(pretrained):
    method = NetBooster(context(starting(DOWNSTREAM, pretrained)))
    giant = method.network.double()
    randomise(giant, seed=3)
    set_slope(giant, 1.0)
    giant.eval()
    images = torch.randn(5, 1, 8, 8, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(contract(giant)(images), giant(images), rtol=1e-10, atol=1e-10)


def test_mistakes_are_errors_of_one_line(pretrained, tmp_path):
    empty, damaged, run = tmp_path / "empty", tmp_path / "damaged", tmp_path / "run"
    (run / "train").mkdir(parents=True)
    (run / "train" / "model.safetensors").touch()
    empty.mkdir()
    damaged.mkdir()
    for name in ("model", "giant"):
        content = (pretrained / f"{name}.safetensors").read_bytes()
        (damaged / f"{name}.safetensors").write_bytes(content[: len(content) // 2])

    def error(train, model=MODEL) -> str:
        plain = build_network(model, (1, 8, 8), 4)
        with pytest.raises(ConfigError) as raised:
            METHODS.get(train.method)(MethodContext(plain, model, train, STEPS))
        assert "\n" not in str(raised.value)
        return str(raised.value)

    for method in ("plain", "netaug"):
        train = SHORT.model_copy(update={"method": method})
        assert "nowhere: no such folder" in error(starting(train, tmp_path / "nowhere"))
        assert "empty/model.safetensors is missing" in error(starting(train, empty))
        assert f"give {run / 'train'}" in error(starting(train, run))
        assert "damaged/model.safetensors is damaged" in error(starting(train, damaged))
    other = MODEL.model_copy(update={"name": "ds_cnn", "stages": None, "stem_channels": None})
    other = other.model_copy(update={"stem_stride": 2, "last_channels": None})
    assert "fits the network" in error(starting(SHORT, pretrained), other)
    assert "needs train.initial" in error(DOWNSTREAM)
    assert "empty/giant.safetensors is missing" in error(starting(DOWNSTREAM, empty))
    assert "damaged/giant.safetensors is damaged" in error(starting(DOWNSTREAM, damaged))
    again = NetBoosterConfig(start="giant", ratio=3, plt_learning_rate=0.1)
    restarting = DOWNSTREAM.model_copy(update={"netbooster": again})
    assert "set train.learning_rate instead" in error(starting(restarting, pretrained))
    wider = DOWNSTREAM.model_copy(update={"netbooster": NetBoosterConfig(start="giant", ratio=4)})
    assert "train.netbooster.ratio = 3, now it is 4" in error(starting(wider, pretrained))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"giant_epochs": 0}, 'giant_epochs 0 needs netbooster.start = "giant"'),
        ({"decay_epochs": 1, "decay_share": 0.2}, "decay_epochs or decay_share, not both"),
    ],
)
def test_contradicting_phases_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        NetBoosterConfig.model_validate(values)
