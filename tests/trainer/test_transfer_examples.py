"""Every configuration in examples/transfer/ starts from what another one trains, builds and takes a step."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from test_imagenet_examples import CLASSES, SHAPE, save_teacher, take_a_step

from tools.config import RunConfig, load_config
from tools.sweep.plan import Plan
from trainer.config import ExpansionConfig
from trainer.methods.netbooster import expand
from trainer.methods.netbooster.giant_file import save_giant
from trainer.models import build_network
from trainer.models.initialise import initialise

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FOLDER = EXAMPLES / "transfer"
SMALL = ("train.device=cpu", "data.resolution=32")
BASES = [
    *("netaug_mobilenet_v2", "netaug_mobilenet_v3", "netaug_other_networks_base"),
    *("netbooster", "tinytl"),
]
ROWS = {  # of the published tables, and teachers
    "netaug_table4_mobilenet_v2": 5 * 6,
    "netaug_table4_mobilenet_v3": 5 * 4,
    "netaug_table5": 2 * 5 * 2,
    "netaug_other_networks": 3 * 5 * 2,
    "netbooster_table2": 5 * (2 + 4 + 1),
}
DATASETS = {"food101", "flowers102", "cars", "cub200", "pets", "cifar100"}
OTHER_CLASSES = len(CLASSES) - 5


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A function that leaves what a training of a model on other classes would; gives its folder."""
    root = tmp_path_factory.mktemp("pretrained")

    def make(config: RunConfig) -> Path:
        model = config.model.model_copy(update={"lite_residuals": False})
        expansion = ExpansionConfig.model_validate(
            config.train.netbooster.model_dump(include=set(ExpansionConfig.model_fields))
        )
        boosted = config.train.method == "netbooster"
        key = f"{boosted} {model.model_dump_json()} {expansion.model_dump_json()}"
        folder: Path = root / sha256(key.encode()).hexdigest()[:16]
        if not folder.exists():
            folder.mkdir()
            network = build_network(model, SHAPE, OTHER_CLASSES)
            initialise(network, model.init, 1)
            save_file(network.state_dict(), folder / "model.safetensors")
            if boosted:
                save_giant(folder, expand(network, expansion), expansion)
        return folder

    return make


def starting(config: RunConfig, folder: Path) -> RunConfig:
    train = config.train.model_copy(update={"initial": folder})
    return config.model_copy(update={"train": train})


def plans(overrides: tuple[str, ...] = ()) -> dict[str, Plan]:
    """By the folder in runs/ that `tinyboost sweep` takes by default."""
    paths = [*EXAMPLES.glob("imagenet/*_table*.toml"), FOLDER / "netbooster_imagenet.toml"]
    paths += [FOLDER / f"{name}.toml" for name in ROWS]
    return {path.stem: Plan(path, Path("runs") / path.stem, overrides) for path in paths}


@pytest.fixture(scope="module")
def published() -> dict[str, Plan]:
    return plans()


def test_every_file_is_tested():
    assert {path.stem for path in FOLDER.glob("*.toml")} == {*BASES, *ROWS, "netbooster_imagenet"}


@pytest.mark.parametrize("name", ROWS)
def test_every_row_is_there_once(published, name):
    expected = published[name].expected
    assert len(expected) == ROWS[name]
    settings = [config.model_dump_json() for config in expected.values()]
    assert len(set(settings)) == len(settings), "two rows say the same"
    folders = {str(config.data.path).removeprefix("data/") for config in expected.values()}
    assert folders <= DATASETS
    assert len(folders) == 5


@pytest.mark.parametrize("name", ROWS)
def test_every_row_starts_from_a_training_of_the_same_network(published, name):
    by_folder = {
        run.folder / "train": config for plan in published.values() for run, config in plan.expected.items()
    }
    for run, config in published[name].expected.items():
        source = by_folder[config.train.initial]
        same = {"lite_residuals": False, "init": source.model.init}
        assert config.model.model_copy(update=same) == source.model, run.arm
        assert source.data.name == "webdataset"
        if "teacher" not in run.arm:
            assert config.data.resolution == source.data.resolution, run.arm
        assert ("netaug" in run.arm) == (source.train.method == "netaug"), run.arm
        if name == "netbooster_table2":
            boosted = config.train.method == "netbooster"
            assert boosted == (source.train.method == "netbooster"), run.arm
            assert boosted == (config.train.netbooster.start == "giant")
        else:
            assert run.arm.endswith("-kd") == (source.train.objective == "kd"), run.arm


def test_learning_rates_are_those_of_four_devices(published):
    configs = {
        run.arm: config.train for run, config in published["netaug_table4_mobilenet_v2"].expected.items()
    }
    cars = configs["cars-netaug"]
    assert (cars.learning_rate, cars.regularisation.dropout) == (0.72, 0.5)
    for train in configs.values():
        assert train.learning_rate == pytest.approx(4 * train.warmup_learning_rate)


@pytest.mark.parametrize("name", BASES)
def test_recipes_train(name, pretrained):
    config = load_config(FOLDER / f"{name}.toml", SMALL)
    take_a_step(starting(config, pretrained(config)))


def way(config: RunConfig) -> str:
    """What decides the code that a step runs."""
    train = config.train
    texts = [train.method, train.objective, train.optimizer, str(train.regularisation.dropout > 0)]
    return " ".join([*texts, config.model.model_dump_json(), train.netbooster.model_dump_json()])


@pytest.fixture(scope="module")
def taken() -> set[str]:
    """The ways of which a step was taken before."""
    return set()


@pytest.mark.parametrize("name", ROWS)
def test_every_row_trains(name, pretrained, taken, tmp_path):
    for config in Plan(FOLDER / f"{name}.toml", tmp_path, SMALL).expected.values():
        if way(config) in taken:
            continue
        taken.add(way(config))
        teacher = config.train.distillation.teacher
        if teacher is not None:
            assert teacher.is_relative_to(tmp_path), "the teacher is a run of the same sweep"
            if not teacher.exists():
                save_teacher(teacher)
        with torch.random.fork_rng():
            take_a_step(starting(config, pretrained(config)))


def test_what_else_is_needed_trains(published):
    expected = plans(SMALL)["netbooster_imagenet"].expected
    assert [config.train.method for config in expected.values()] == ["plain", "netbooster", "plain"]
    assert all(
        config.data.name == "webdataset" for config in published["netbooster_imagenet"].expected.values()
    )
    for config in expected.values():
        if config.model.name != "resnet50":
            take_a_step(config)
