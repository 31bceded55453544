from __future__ import annotations

import pytest
import torch
from tiny_configs import DATA, MODEL, TRAIN

import trainer
from trainer.checkpoint import load_network
from trainer.config import DistillationConfig, NetBoosterConfig, TrainConfig
from trainer.data import load_dataset
from trainer.evaluate import accuracy

SHORT = DATA.model_copy(update={"train_limit": 256})


def config(**values) -> TrainConfig:
    return TrainConfig.model_validate(TRAIN.model_dump() | {"epochs": 4, "keep_every": 2} | values)


def kept(folder) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").glob("*"))


@pytest.mark.parametrize("method", ["plain", "netaug"])
def test_networks_along_the_way_have_the_accuracies_of_the_log(tmp_path, method):
    trainer.train(SHORT, MODEL, config(method=method, evaluate_every=1), tmp_path)
    assert kept(tmp_path) == ["epoch_002", "epoch_004"]
    log = [row.split(",") for row in (tmp_path / "log.csv").read_text().splitlines()]
    column = log[0].index("accuracy")
    dataset = load_dataset(SHORT)
    for epoch in (2, 4):
        network, architecture = load_network(tmp_path / "checkpoints" / f"epoch_{epoch:03d}")
        measured = accuracy(network, dataset.test(), architecture.mean, architecture.std)
        assert measured == float(log[epoch][column])
    last, _ = load_network(tmp_path / "checkpoints" / "epoch_004")
    final, _ = load_network(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(last.parameters(), final.parameters(), strict=True))


def test_keeping_changes_no_weights_and_a_new_training_forgets(tmp_path):
    trainer.train(SHORT, MODEL, config(keep_every=1, evaluate_every=4), tmp_path / "a")
    assert kept(tmp_path / "a") == [f"epoch_{epoch:03d}" for epoch in (1, 2, 3, 4)]
    trainer.train(SHORT, MODEL, config(keep_every=None), tmp_path / "b")
    assert not kept(tmp_path / "b")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b")]
    assert weights[0] == weights[1]
    trainer.train(SHORT, MODEL, config(keep_every=3), tmp_path / "a", resume=True)
    assert len(kept(tmp_path / "a")) == 4, "a training that goes on keeps what there is"
    trainer.train(SHORT, MODEL, config(keep_every=3), tmp_path / "a")
    assert kept(tmp_path / "a") == ["epoch_003"]


def test_giants_are_not_kept(tmp_path):
    train = config(
        method="netbooster",
        keep_every=1,
        warmup_epochs=0,
        netbooster=NetBoosterConfig(giant_epochs=1, decay_epochs=1),
    )
    trainer.train(SHORT, MODEL, train, tmp_path)
    assert kept(tmp_path) == ["epoch_003", "epoch_004"]
    for name in kept(tmp_path):
        load_network(tmp_path / "checkpoints" / name)


def test_a_student_follows_the_route_of_a_teacher(tmp_path):
    trainer.train(SHORT, MODEL, config(), tmp_path / "teacher")
    route = tuple(tmp_path / "teacher" / "checkpoints" / name for name in kept(tmp_path / "teacher"))
    student = config(objective="rco_kd", keep_every=None, distillation=DistillationConfig(teachers=route))
    trainer.train(SHORT, MODEL, student, tmp_path / "student")
    load_network(tmp_path / "student")
