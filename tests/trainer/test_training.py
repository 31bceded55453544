from __future__ import annotations

import csv
import json
import logging
import re
import sys
import types

import numpy as np
import pytest
import torch
from interruption import train_until
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_configs import DATA, MODEL, NETAUG, TRAIN
from torch import nn

import trainer
from common.errors import ConfigError, ModelError
from trainer.checkpoint import load_network
from trainer.config import DataConfig
from trainer.data import load_dataset, normalise
from trainer.models import MODELS, count

NETAUG_TRAIN = TRAIN.model_copy(update={"method": "netaug"})


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def changed(section, **values):
    return type(section).model_validate(section.model_dump() | values)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished NetAug training and its result."""
    folder = tmp_path_factory.mktemp("trained")
    train = changed(NETAUG_TRAIN, epochs=8, learning_rate=0.3)
    return folder, trainer.train(changed(DATA, train_limit=None), MODEL, train, folder)


def test_netaug_learns_the_digits(trained):
    folder, result = trained
    assert result.accuracy > 0.8
    assert result.train_accuracy > 0.85
    assert result.epochs == 8
    network, architecture = load_network(folder)
    assert (result.parameters, result.macs) == (architecture.parameters, architecture.macs)
    cost = count(network, architecture.input_shape)
    assert (cost.parameters, cost.macs) == (result.parameters, result.macs)


def test_the_saved_network_has_the_reported_accuracy(trained):
    folder, result = trained
    network, architecture = load_network(folder)
    assert not network.training
    assert architecture.class_names == tuple("0123456789")
    assert (architecture.input_shape, architecture.dataset) == ((1, 8, 8), "digits")
    dataset = load_dataset(architecture.data)
    assert (dataset.mean, dataset.std) == (architecture.mean, architecture.std)
    with torch.inference_mode():
        logits = network(normalise(dataset.test_images, architecture.mean, architecture.std))
    assert float(np.mean(logits.argmax(1).numpy() == dataset.test_labels)) == result.accuracy


def test_the_log_has_a_row_per_epoch_and_ends_with_the_reported_accuracy(trained):
    folder, result = trained
    with (folder / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(1, 9))
    assert [int(row["step"]) for row in rows] == [22 * epoch for epoch in range(1, 9)]
    assert float(rows[-1]["accuracy"]) == result.accuracy
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert sum(float(row["seconds"]) for row in rows) == pytest.approx(result.seconds)


def tensorboard(folder, monkeypatch):
    """TensorBoard's own view of the curves in `folder`."""
    # Makes it use its small stand-in for TensorFlow, which takes seconds to import.
    monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", types.ModuleType("notf"))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder / "tensorboard")).Reload()


def test_tensorboard_reads_the_same_curves(trained, monkeypatch):
    folder, _ = trained
    events = tensorboard(folder, monkeypatch)
    with (folder / "log.csv").open() as file:
        expected = [float(row["loss"]) for row in csv.DictReader(file)]
    assert [event.step for event in events.Scalars("loss")] == list(range(1, 9))
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(expected)
    assert set(events.Tags()["scalars"]) >= {"accuracy", "train_accuracy", "learning_rate"}


def test_equal_configurations_give_equal_weights_and_other_seeds_others(tmp_path):
    train = changed(NETAUG_TRAIN, epochs=2)
    trainer.train(DATA, MODEL, train, tmp_path / "a")
    torch.manual_seed(123)
    trainer.train(DATA, MODEL, train, tmp_path / "b")
    trainer.train(DATA, MODEL, changed(train, seed=1), tmp_path / "c")
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert weights(tmp_path / "a") != weights(tmp_path / "c")


def test_training_leaves_torchs_threads_and_random_state_alone(tmp_path):
    torch.set_num_threads(2)
    state = torch.get_rng_state()
    trainer.train(DATA, MODEL, changed(TRAIN, epochs=2), tmp_path)
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.get_rng_state(), state)


class Noise(nn.Module):
    """A network that is none of inverted residuals, and draws from torch's global generator."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(x)
        return logits


@pytest.fixture
def registered_model():
    if "noise" not in MODELS.names():
        MODELS.register("noise", lambda config, shape, classes: Noise(classes))
    return changed(MODEL, name="noise")


def test_a_registered_model_trains_plainly_and_resumes_exactly(tmp_path, registered_model, monkeypatch):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train = changed(TRAIN, checkpoint_every=2)
    result = trainer.train(DATA, registered_model, train, whole)
    assert result.macs == 640
    train_until(3 * 8 + 5, monkeypatch, DATA, registered_model, train, parts)
    assert len((parts / "log.csv").read_text().splitlines()) == 1 + 3
    assert not (parts / "model.json").exists()
    resumed = trainer.train(DATA, registered_model, train, parts, resume=True)
    assert weights(parts) == weights(whole)
    assert resumed.accuracy == result.accuracy
    events = tensorboard(parts, monkeypatch).Scalars("loss")
    assert [event.step for event in events] == [1, 2, 3, 4], (
        "what was written after the checkpoint is dropped"
    )


def test_netaug_refuses_a_model_that_it_cannot_widen(tmp_path, registered_model):
    with pytest.raises(ConfigError, match="use method plain"):
        trainer.train(DATA, registered_model, NETAUG_TRAIN, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    trainer.train(DATA, MODEL, changed(TRAIN, epochs=2), folder)
    return folder


@pytest.mark.parametrize(
    ("data", "model", "train", "message"),
    [
        ({"crop_padding": 2}, {}, {}, "data.crop_padding = 1, now it is 2"),
        ({}, {"last_channels": 8}, {}, "model.last_channels = 24, now it is 8"),
        ({}, {}, {"epochs": 3}, "train.epochs = 2, now it is 3"),
        ({}, {}, {"netaug": {"alpha": 0.5}}, "train.netaug.alpha = 1.0, now it is 0.5"),
    ],
)
def test_resuming_under_another_configuration_names_the_key(finished, data, model, train, message):
    before = {path: path.read_bytes() for path in finished.iterdir() if path.is_file()}
    with pytest.raises(ConfigError, match=re.escape(message)):
        trainer.train(
            changed(DATA, **data),
            changed(MODEL, **model),
            changed(TRAIN, **{"epochs": 2, "netaug": NETAUG} | train),
            finished,
            resume=True,
        )
    assert before == {path: path.read_bytes() for path in finished.iterdir() if path.is_file()}


def test_resuming_a_finished_training_changes_nothing(finished):
    before = weights(finished), (finished / "log.csv").read_bytes()
    train = changed(TRAIN, epochs=2, threads=2, checkpoint_every=2)
    result = trainer.train(DATA, MODEL, train, finished, resume=True)
    assert (weights(finished), (finished / "log.csv").read_bytes()) == before
    assert result.seconds > 0


def test_resuming_where_nothing_is_trains_from_the_start(finished, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        trainer.train(DATA, MODEL, changed(TRAIN, epochs=2), tmp_path, resume=True)
    assert "nothing to resume" in caplog.text
    assert weights(tmp_path) == weights(finished)


def test_training_anew_over_an_unfinished_training_says_what_is_lost(tmp_path, monkeypatch, caplog):
    train = changed(TRAIN, epochs=2, warmup_epochs=0)
    train_until(8, monkeypatch, DATA, MODEL, train, tmp_path)  # in the second epoch of 8 steps
    trainer.train(DATA, MODEL, train, tmp_path)
    assert "after epoch 1 of 2 is lost; --resume would have gone on" in caplog.text
    caplog.clear()
    trainer.train(DATA, MODEL, train, tmp_path)
    assert "is lost" not in caplog.text  # that one had finished


def test_a_damaged_checkpoint_is_named(finished, tmp_path):
    content = (finished / "resume.safetensors").read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"\x08" + b"\0" * 7 + b"{}      "):
        (tmp_path / "resume.safetensors").write_bytes(damaged)
        with pytest.raises(ConfigError, match=r"resume\.safetensors: damaged .*without --resume"):
            trainer.train(DATA, MODEL, changed(TRAIN, epochs=2), tmp_path, resume=True)


def test_a_checkpoint_of_another_network_is_refused(tmp_path, finished):
    tensors = load_file(finished / "resume.safetensors")
    with safe_open(finished / "resume.safetensors", "pt") as file:
        header = file.metadata()
    tensors["network.classifier.weight"] = torch.zeros(3, 3)
    save_file(tensors, tmp_path / "resume.safetensors", header)
    with pytest.raises(ConfigError, match="of another network"):
        trainer.train(DATA, MODEL, changed(TRAIN, epochs=2), tmp_path, resume=True)


def test_a_new_training_forgets_the_old_one(tmp_path):
    trainer.train(DATA, MODEL, changed(TRAIN, epochs=3), tmp_path)
    (tmp_path / ".resume.safetensors.k1ll3d.safetensors").touch()
    trainer.train(DATA, MODEL, changed(TRAIN, epochs=2, evaluate_every=2), tmp_path)
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert len(lines) == 3
    assert lines[1].split(",")[5] == ""
    assert lines[2].split(",")[5] != ""
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1
    assert not list(tmp_path.glob(".*"))


def test_without_a_terminal_every_epoch_is_a_line_with_its_eta(tmp_path, caplog, capsys):
    with caplog.at_level(logging.INFO):
        trainer.train(DATA, MODEL, changed(TRAIN, epochs=2), tmp_path)
    lines = [record.getMessage() for record in caplog.records if "ETA" in record.getMessage()]
    assert len(lines) == 2
    pattern = r"epoch 1/2: loss \d+\.\d{3}, train [\d.]+%, test [\d.]+%, [\d.]+ s, ETA \d+ s"
    assert re.fullmatch(pattern, lines[0])
    assert lines[1].endswith("ETA 0 s")
    assert capsys.readouterr() == ("", "")


def test_a_progress_bar_goes_to_stderr(tmp_path, capsys):
    trainer.train(DATA, MODEL, changed(TRAIN, epochs=2), tmp_path, show_progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "epoch 2/2" in err
    assert "100%" in err


def test_divergence_is_an_error_that_names_the_learning_rate(tmp_path):
    train = changed(TRAIN, learning_rate=1e30, warmup_epochs=0, epochs=2)
    with pytest.raises(ConfigError, match=r"diverged in epoch 1.*lower train\.learning_rate"):
        trainer.train(DATA, MODEL, train, tmp_path)
    assert not (tmp_path / "model.json").exists()


def test_compiled_networks_train_to_the_weights_of_others(tmp_path, monkeypatch):
    compile_network = nn.Module.compile
    compiled = []

    def without_generated_code(self):
        compiled.append(self)
        compile_network(self, backend="eager")

    monkeypatch.setattr(nn.Module, "compile", without_generated_code)
    for wanted in (True, False):
        train = changed(TRAIN, epochs=2, compile=wanted)
        trainer.train(changed(DATA, train_limit=128), MODEL, train, tmp_path / str(wanted))
    assert len(compiled) == 1
    assert weights(tmp_path / "True") == weights(tmp_path / "False")


def test_networks_whose_widths_change_are_not_compiled(tmp_path):
    with pytest.raises(ConfigError, match=r"train\.compile: netaug changes the widths"):
        trainer.train(DATA, MODEL, changed(NETAUG_TRAIN, compile=True), tmp_path)


def test_an_unknown_method_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match="unknown method 'netaugment': did you mean 'netaug'"):
        trainer.train(DATA, MODEL, changed(TRAIN, method="netaugment"), tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_cuda_device_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match='use "cpu"'):
        trainer.train(DATA, MODEL, changed(TRAIN, device="cuda"), tmp_path)


def test_missing_or_damaged_networks_are_model_errors(finished, tmp_path):
    with pytest.raises(ModelError, match=r"model\.json is missing"):
        load_network(tmp_path)
    described = json.loads((finished / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(described))
    with pytest.raises(ModelError, match=r"model\.safetensors is missing"):
        load_network(tmp_path)
    content = bytearray(weights(finished))
    content[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged"):
        load_network(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(weights(finished))
    for damage, message in (
        ({"class_names": ["a"]}, "does not fit"),
        ({"input_shape": [1, 8]}, r"model\.json: damaged: input_shape"),
        ({"colour": "red"}, r"model\.json: damaged: colour"),
    ):
        (tmp_path / "model.json").write_text(json.dumps(described | damage))
        with pytest.raises(ModelError, match=message):
            load_network(tmp_path)
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(ModelError, match=r"model\.json: damaged"):
        load_network(tmp_path)


def test_a_network_too_deep_for_the_images_leaves_no_files(tmp_path):
    with pytest.raises(ConfigError, match="too deep for images of 8x8"):
        trainer.train(DataConfig(name="digits"), changed(MODEL, stages=None), TRAIN, tmp_path)
    assert not list(tmp_path.iterdir())
