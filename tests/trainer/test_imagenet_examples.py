"""Every configuration in examples/imagenet/ builds, and takes a step, at a small resolution."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tools.config import RunConfig, load_config
from tools.sweep.file import references
from tools.sweep.plan import Plan
from trainer.augment import Augmentation
from trainer.checkpoint import Architecture, save_network
from trainer.config import DataConfig, ModelConfig
from trainer.data.batches import Batch
from trainer.methods import METHODS, MethodContext
from trainer.models import build_network, count
from trainer.models.initialise import initialise
from trainer.objectives import OBJECTIVES, ObjectiveContext
from trainer.optim import make_optimizer
from trainer.regularise import regularise

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "imagenet"
SWEEPS = sorted(EXAMPLES.glob("*_table*.toml"))
BASES = ["netaug.toml", "netbooster.toml"]

SHAPE = (3, 32, 32)
CLASSES = tuple(f"n{index:08d}" for index in range(12))
IMAGES = 4
SMALL = ("train.device=cpu", "data.resolution=32")

ROWS = {  # of the published tables, and teachers
    "netaug_table1": 8 * 2,
    "netaug_table2": 4 * 4 + 1,
    "netaug_table3": 4 + 9,
    "netaug_table4": 2,
    "netaug_table7": 7,
    "netbooster_table1": 4 * 3 + 4 + 1,
    "netbooster_table4": 3,
    "netbooster_table5": 5,
    "netbooster_table6": 4,
    "netbooster_table7": 4,
    "netbooster_table8": 4,
}


def take_a_step(config: RunConfig) -> None:
    """As the training loop would."""
    train, data = config.train, config.data
    generator = torch.Generator().manual_seed(0)
    plain = build_network(config.model, SHAPE, len(CLASSES))
    initialise(plain, config.model.init, 0)
    context = MethodContext(plain, config.model, train, steps_per_epoch=10)
    method = regularise(METHODS.get(train.method)(context), context)
    objective = OBJECTIVES.get(train.objective)(
        ObjectiveContext(train, SHAPE, CLASSES, data.mean or (), data.std or ())
    )
    optimizer = make_optimizer(method.network, train)
    augmentation = Augmentation(data.augment, len(CLASSES))
    pixels = torch.randint(0, 256, (IMAGES, *SHAPE[1:], 3), generator=generator).byte()
    varied = augmentation.vary(pixels, generator).permute(0, 3, 1, 2).float() / 64 - 2
    images, labels = augmentation.mix(varied, torch.arange(IMAGES), generator)
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    method.network.train()
    method.start_epoch(0, optimizer)
    objective.start_epoch(0)
    result = method.backward(images, objective.for_part(Batch(images, labels)), 0, 5)
    assert result.outputs.shape == (IMAGES, len(CLASSES))
    assert torch.isfinite(result.loss)
    gradients: list[Tensor] = [p.grad for p in method.network.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    optimizer.step()
    if train.method == "plain":
        assert any(not torch.equal(before[name], tensor) for name, tensor in plain.state_dict().items())


def save_teacher(folder: Path) -> None:
    model = ModelConfig(name="mobilenet_v2_tiny")
    teacher = build_network(model, SHAPE, len(CLASSES))
    cost = count(teacher, SHAPE)
    described = Architecture(
        model=model,
        data=DataConfig(name="digits"),
        dataset="webdataset",
        class_names=CLASSES,
        input_shape=SHAPE,
        mean=(0.5,) * 3,
        std=(0.2,) * 3,
        parameters=cost.parameters,
        macs=cost.macs,
    )
    save_network(folder, teacher, described)


def plan(path: Path, folder: Path) -> Plan:
    return Plan(path, folder, SMALL)


@pytest.mark.parametrize("name", BASES)
def test_recipes_train(name):
    take_a_step(load_config(EXAMPLES / name, SMALL))


def way(config: RunConfig) -> str:
    """What decides the code that a step runs."""
    train = config.train
    parts = (
        config.model,
        config.data.augment,
        train.netaug,
        train.netbooster,
        train.regularisation,
        train.rocket_launch,
    )
    texts = [train.method, train.objective, train.optimizer, *(part.model_dump_json() for part in parts)]
    return " ".join(texts)


@pytest.fixture(scope="module")
def taken() -> set[str]:
    """The ways of which a step was taken before: tables have rows in common."""
    return set()


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_row_of_a_table_trains(path, tmp_path, taken):
    for run, config in plan(path, tmp_path).expected.items():
        distillation = config.train.distillation
        for folder in (distillation.teacher, *distillation.teachers):
            if folder is not None:
                assert folder.is_relative_to(tmp_path), f"{run.arm} learns from a run of the same sweep"
                if not folder.exists():
                    save_teacher(folder)
        if way(config) not in taken:
            take_a_step(config)
            taken.add(way(config))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_row_is_there_once(path, tmp_path):
    expected = plan(path, tmp_path).expected
    assert len(expected) == ROWS[path.stem]
    settings = [config.model_dump_json() for config in expected.values()]
    assert len(set(settings)) == len(settings), "two rows say the same"


def test_checkpoints_that_are_taught_are_those_that_the_teacher_keeps(tmp_path):
    made = plan(EXAMPLES / "netbooster_table1.toml", tmp_path)
    configs = {run.arm: (run, config.train) for run, config in made.expected.items()}
    run, teacher = configs["teacher"]
    assert teacher.keep_every is not None
    kept = [
        run.folder / "train" / "checkpoints" / f"epoch_{epoch:03d}"
        for epoch in range(teacher.keep_every, teacher.epochs + 1, teacher.keep_every)
    ]
    assert list(configs["tiny-rco_kd"][1].distillation.teachers) == kept


def test_resolutions_are_published(tmp_path):
    """The steps above are taken at 32x32; what counts is what is trained."""
    sides = {
        ("mobilenet_v2_tiny", None): 144,
        ("mcunet", None): 176,
        ("mobilenet_v2", 0.35): 160,
        ("mobilenet_v2", 0.5): 160,
        ("mobilenet_v2", 1.0): 160,
        ("mobilenet_v3_large", 0.35): 160,
        ("proxyless_mobile", 0.35): 160,
        ("proxyless_mobile", 1.0): 160,
        ("resnet50", None): 224,
        ("deit_tiny", None): 224,
    }
    seen = set()
    for path in SWEEPS:
        for config in Plan(path, tmp_path).expected.values():
            model = (config.model.name, config.model.width_multiplier)
            assert config.data.resolution == sides[model], path.name
            seen.add(model)
    assert seen == set(sides)


def test_names_in_braces_are_arms():
    assert references(["{run:teacher}/train"]) == {"teacher"}
