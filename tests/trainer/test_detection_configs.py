"""The configurations of the papers' detectors: each loads, builds at its true shape and takes a step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detection_networks import write_shapes

from tools.config import RunConfig, load_config
from tools.sweep.plan import Plan
from trainer.config import TrainConfig
from trainer.data.batches import Batch
from trainer.detection import Detector, load_detection
from trainer.detection.loss import DetectionObjective
from trainer.methods import METHODS, MethodContext
from trainer.models import build_network
from trainer.models.initialise import initialise
from trainer.optim import learning_rate, make_optimizer
from trainer.tasks import make_task

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "detection"
CLASSES = {"VOCdevkit": 20, "coco": 80, "BCCD": 3}
ROWS = {
    "netaug_table4_voc_mobilenet_v2": 7,
    "netaug_table4_coco_mobilenet_v2": 4,
    "netaug_table4_voc_mobilenet_v3": 4,
    "netaug_table4_coco_mobilenet_v3": 4,
    "netbooster_table3_voc": 3,
}


def is_sweep(path: Path) -> bool:
    return "[[arms]]" in path.read_text()


def configurations(path: Path) -> list[RunConfig]:
    return list(Plan(path, Path("runs")).expected.values()) if is_sweep(path) else [load_config(path)]


FILES = sorted(EXAMPLES.glob("*.toml"))


def test_there_is_a_sweep_with_an_arm_for_each_row_of_the_tables():
    assert {path.stem for path in FILES if is_sweep(path)} == ROWS.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_configurations_build_at_their_true_shape_and_take_a_step(path):
    found = configurations(path)
    assert len(found) == ROWS.get(path.stem, 1)
    assert all(config.train.initial for config in found) == is_sweep(path)
    for config in {(each.model, each.train.method): each for each in found}.values():
        classes = CLASSES[config.data.path.name]
        side = config.data.resolution
        with torch.device("meta"):
            network = build_network(config.model, (3, side, side), classes)
            assert isinstance(network, Detector)
            outputs = network(torch.empty(1, 3, side, side))
        assert outputs.shape == (1, 63 * (side // 32) ** 2, 5 + classes)
        assert take_a_step(config, classes) > 0


def take_a_step(config: RunConfig, classes: int) -> float:
    """One training step on two synthetic images of 64x64, from random weights; gives the loss."""
    train = config.train.model_copy(
        update={
            "initial": None,
            "batch_size": 2,
            "netbooster": config.train.netbooster.model_copy(update={"start": "tiny", "giant_epochs": 1}),
        }
    )
    plain = build_network(config.model, (3, 64, 64), classes)
    initialise(plain, config.model.init, 0)
    method = METHODS.get(train.method)(MethodContext(plain, config.model, train, 1))
    optimizer = make_optimizer(method.network, train)
    before = [parameter.detach().clone() for parameter in method.network.parameters()]
    boxes = torch.tensor([[[0.0, 0.5, 0.5, 0.3, 0.4, 1.0]], [[classes - 1.0, 0.2, 0.7, 0.3, 0.2, 1.0]]])
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    objective = DetectionObjective(config.model.detector, 2, train.detection.ignore_overlap)
    result = method.backward(images, objective.for_part(Batch(images, boxes)), 0, 0)
    optimizer.step()
    changed = [
        not torch.equal(old, new) for old, new in zip(before, method.network.parameters(), strict=True)
    ]
    assert sum(changed) > 0.9 * len(changed)
    assert result.loss.isfinite()
    return result.loss.item()


def test_the_schedule_drops_after_160_and_180_of_200_epochs():
    train: TrainConfig = load_config(EXAMPLES / "voc_mobilenet_v2.toml").train
    rates = [learning_rate(train, epoch, 1) for epoch in (0, 159, 160, 179, 180, 199)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])
    assert train.detection.sizes == tuple(range(320, 609, 32))


def test_the_blood_cells_example_trains_on_any_voc_folder(tmp_path):
    config = load_config(EXAMPLES / "bccd.toml")
    data = config.data.model_copy(update={"path": write_shapes(tmp_path / "shapes").path})
    assert len(load_detection(data).train_images) == 24
    train = config.train.model_copy(update={"batch_size": 2})
    batch = next(iter(make_task(data, config.model, train).batches.epoch(0)))
    assert batch.images.shape == (2, 3, 160, 160)
