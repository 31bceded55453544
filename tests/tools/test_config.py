"""The configuration: what is read is what was written, and mistakes are named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from common.errors import ConfigError
from tools.config import RunConfig, load_config, to_toml
from tools.sweep.plan import Plan
from trainer.config import DataConfig, ModelConfig, StageConfig, TrainConfig
from trainer.models import MODELS

ALL_EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("**/*.toml"))
SWEEPS = [path for path in ALL_EXAMPLES if "[[arms]]" in path.read_text()]
EXAMPLES = [path for path in ALL_EXAMPLES if path not in SWEEPS]


def write(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_load(path: Path) -> None:
    assert load_config(path).board.name == "stm32f746g_disco"


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_sweeps_of_the_examples_load(path: Path, tmp_path: Path) -> None:
    plan = Plan(path, tmp_path / "runs")
    assert {run.arm for run in plan.runs} == {arm.name for arm in plan.file.arms}


def test_resolved_configuration_reads_back_the_same(tmp_path: Path) -> None:
    config = load_config(None, ["train.epochs=7", "test.max_latency_ms=2.5", 'data.name="digits"'])
    assert load_config(write(tmp_path, to_toml(config))) == config


def test_set_wins_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    path = write(tmp_path, "[train]\nepochs = 5\nseed = 9\n")
    config = load_config(path, ["train.epochs=6"])
    assert (config.train.epochs, config.train.seed) == (6, 9)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[train]\nepoch = 3\n", ["train.epoch", "'epochs'"]),
        ("[trian]\nepochs = 3\n", ["trian", "'train'"]),
        ("[train.netaug]\nwidht = [1.0]\n", ["train.netaug.widht", "'width'"]),
        ("[train]\nepochs = 'many'\n", ["train.epochs", "'many'"]),
        ("[board]\nname = 'nucleo'\n", ["nucleo", "stm32f746g_disco"]),
        ("train = [\n", ["not valid TOML", "config.toml"]),
    ],
)
def test_mistakes_name_file_key_and_remedy(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text))
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in ["config.toml", *words])


@pytest.mark.parametrize("section", [DataConfig, ModelConfig, StageConfig, TrainConfig])
def test_every_key_is_documented(section: type[BaseModel]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    code = " ".join(re.findall(r"```.*?```|`[^`]+`|^\[.*?\]$", page, re.DOTALL | re.MULTILINE))
    assert [key for key in section.model_fields if not re.search(rf"\b{key}\b", code)] == []


def test_every_network_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    assert [name for name in MODELS.names() if f'| `"{name}"`' not in page] == []


def test_overrides_are_told_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.toml with --set: train\.epochs"):
        load_config(write(tmp_path, ""), ["train.epochs=0", "train.seed=1"])


def test_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.toml: no such"):
        load_config(tmp_path / "nothing.toml")


@pytest.mark.parametrize("override", ["train.epochs", "=3", "train.seed.deeper=1", "nonsense=1"])
def test_malformed_overrides_are_refused(override: str) -> None:
    with pytest.raises(ConfigError):
        load_config(None, [override])


@given(st.text(max_size=80))
def test_any_override_text_is_a_configuration_or_one_clear_error(text: str) -> None:
    try:
        config = load_config(None, [text])
    except ConfigError:
        return
    assert isinstance(config, RunConfig)
