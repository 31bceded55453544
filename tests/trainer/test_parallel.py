"""Several processes on one host must train as one process with as many workers does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tomli_w
import torch
from safetensors.torch import load_file
from tiny_configs import DATA, MODEL, TRAIN, network
from training_processes import ROOT, Ended, Fault, Job, run_together

import trainer
from common.errors import ConfigError
from trainer.config import TrainConfig
from trainer.launch import Launch, launched
from trainer.methods import MethodContext
from trainer.methods.netaug import NetAug
from trainer.parallel import Ranks, joined


def changed(train: TrainConfig = TRAIN, **values) -> TrainConfig:
    return TrainConfig.model_validate(train.model_dump() | values)


SHORT = changed(epochs=2, timeout=120)
BOOSTER = changed(
    SHORT,
    method="netbooster",
    epochs=3,
    warmup_epochs=0,
    netbooster={"giant_epochs": 1, "decay_epochs": 1},
)


def state(folder: Path) -> dict[str, torch.Tensor]:
    """Weights, statistics and momentum at the end of a training; statistics' averages are one thread's."""
    tensors = load_file(folder / "resume.safetensors")
    assert any(name.endswith("running_var") for name in tensors)
    return {
        name: tensor
        for name, tensor in tensors.items()
        if not (name.startswith("average.") and "running_" in name)
    }


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert any(name.startswith("momentum_buffer.") for name in one)
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_two_processes_give_the_weights_of_two_workers(tmp_path):
    jobs = [Job(tmp_path / "plain", changed(SHORT, ema=0.9)), Job(tmp_path / "netbooster", BOOSTER)]
    assert run_together(jobs, tmp_path) == [Ended(0, ""), Ended(0, "")]
    for job in jobs:
        both, alone = job.folder, tmp_path / "alone"
        trainer.train(DATA, MODEL, changed(job.train, workers=2), alone)
        assert_equal(state(both / "0"), state(alone))
        assert not (both / "1").exists(), "only the first process writes"
        assert sorted(p.name for p in (both / "0").iterdir()) == sorted(p.name for p in alone.iterdir())
        rows = [(folder / "log.csv").read_text().splitlines() for folder in (both / "0", alone)]
        for row, expected in zip(*rows, strict=True):
            assert row.split(",")[:3] == expected.split(",")[:3]
            assert row.split(",")[4] == expected.split(",")[4], "training accuracy is that of all images"


def test_a_resumed_netaug_draws_the_same_networks_everywhere_and_ends_with_the_same_bytes(tmp_path):
    job = Job(tmp_path / "both", changed(SHORT, method="netaug", epochs=14), resume=True, draws=True)
    killed = run_together([replace(job, fault=Fault("kill", 60, (0, 1)))], tmp_path)
    assert [ended.code for ended in killed] == [-9, -9]
    assert run_together([job], tmp_path) == [Ended(0, ""), Ended(0, "")]
    drawn = [(tmp_path / "both" / f"drawn.{rank}").read_text().splitlines() for rank in (0, 1)]
    assert drawn[0] == drawn[1]
    method = NetAug(MethodContext(network(), MODEL, job.train))
    steps = [*range(61), *range(56, 112)]  # 8 in an epoch
    assert drawn[0] == [f"{step} {method.drawn(step // 8, step)}" for step in steps]
    assert len(set(drawn[0])) == 112
    trainer.train(DATA, MODEL, changed(job.train, workers=2), tmp_path / "alone")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("both/0", "alone")]
    assert weights[0] == weights[1]


def test_a_checkpoint_of_two_processes_goes_on_in_one_with_two_workers(tmp_path):
    train = changed(SHORT, epochs=3)
    run_together([Job(tmp_path, train, fault=Fault("kill", 12, (0, 1)))], tmp_path)
    with pytest.raises(ConfigError, match=r"workers x train.accumulate x processes = 2, now it is 1"):
        trainer.train(DATA, MODEL, train, tmp_path / "0", resume=True)
    trainer.train(DATA, MODEL, changed(train, workers=2), tmp_path / "0", resume=True)
    trainer.train(DATA, MODEL, changed(train, workers=2), tmp_path / "alone")
    assert_equal(state(tmp_path / "0"), state(tmp_path / "alone"))


def test_a_gradient_that_is_no_number_in_one_process_ends_all(tmp_path):
    for ended in run_together([Job(tmp_path, SHORT, fault=Fault("nan", 2, (1,)))], tmp_path):
        assert ended.code == 2
        assert re.fullmatch(r".*diverged in epoch 1, the loss is nan: lower train\.lear.*\n", ended.errors)
    assert not (tmp_path / "0" / "model.json").exists()


@pytest.mark.parametrize(("kind", "code"), [("error", 2), ("kill", -9)])
def test_a_process_that_fails_ends_the_others_in_one_line(tmp_path, kind, code):
    first, second = run_together([Job(tmp_path, SHORT, fault=Fault(kind, 3, (1,)))], tmp_path)
    assert first.code == 2
    assert re.fullmatch(
        r"process 1 of 2: another process .* did not answer, see its output \([^/]+\)\n", first.errors
    )
    assert second.code == code
    assert second.errors == ("process 2 of 2: this process cannot go on\n" if kind == "error" else "")


def test_a_process_that_never_comes_is_not_waited_for_forever(tmp_path):
    (ended,) = run_together([Job(tmp_path, changed(SHORT, timeout=2))], tmp_path, missing=1)
    assert ended.code == 2
    assert re.fullmatch(r".*could not join the others within train\.timeout 2 s .*\n", ended.errors)


def test_other_settings_in_one_process_are_named(tmp_path):
    _, second = run_together([Job(tmp_path, SHORT, changes=(("learning_rate", 0.3),))], tmp_path)
    assert "process 2 of 2: train.learning_rate is 0.3 here, 0.2 in process 1: give all" in second.errors


def test_torchrun_trains_by_the_command_line(tmp_path):
    sections = {"data": DATA, "model": MODEL, "train": changed(SHORT, method="netaug", precision="bfloat16")}
    config = {name: s.model_dump(mode="json", exclude_none=True) for name, s in sections.items()}
    (tmp_path / "tiny.toml").write_text(tomli_w.dumps(config))
    command = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "tools.cli",
        "train",
    ]
    done = subprocess.run(
        [sys.executable, *command, "-c", str(tmp_path / "tiny.toml"), "-o", str(tmp_path / "run"), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["epochs"] == 2
    assert "2 processes" in done.stderr
    assert done.stderr.count("epoch 2/2") == 1
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["stages"]["train"]["result"]["accuracy"] == printed["accuracy"]


def test_the_batch_must_be_shared_evenly(monkeypatch):
    for name, value in (("WORLD_SIZE", "3"), ("RANK", "1"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert launched() == Launch(1, 3, 1)
    with pytest.raises(ConfigError, match="batch_size 64 must be a multiple of 3 processes"), joined(TRAIN):
        pass


@pytest.mark.parametrize(("name", "value"), [("RANK", ""), ("RANK", "2"), ("WORLD_SIZE", "two")])
def test_an_environment_that_makes_no_sense_is_an_error(monkeypatch, name, value):
    for key, usual in (("WORLD_SIZE", "2"), ("RANK", "1")):
        monkeypatch.setenv(key, usual)
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="the environment has"):
        launched()


def test_one_process_needs_no_others(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    with joined(TRAIN) as ranks:
        assert ranks == Ranks(0, 1)
        values = torch.arange(3.0)
        ranks.sum([values])
        ranks.average([values])
        assert values.tolist() == [0, 1, 2]
        assert ranks.broadcast(lambda: b"x") == b"x"
