"""Modules of one's own: every verb finds what they register, and their faults are told in a line."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import ConfigError
from tools.cli import execute
from tools.config import load_config, to_toml
from tools.imports import import_all
from trainer.data import DATASETS
from trainer.models import MODELS

OWN = """
from dataclasses import dataclass

import numpy as np
from torch import nn

from beside import CLASSES
from trainer.data import DATASETS, Samples
from trainer.models import register_model


@dataclass(frozen=True)
class Size:
    side: int = 8


def load(config):
    images = np.random.default_rng(0).integers(0, 256, (96, Size().side, Size().side, 1), np.uint8)
    labels = (images.mean((1, 2, 3)) > 127).astype(np.int64)
    return Samples(images[:64], labels[:64], images[64:], labels[64:], CLASSES)


DATASETS.register("own_images", load)


@register_model("own_network")
def network(config, input_shape, classes):
    return nn.Sequential(
        nn.Conv2d(input_shape[0], 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, classes),
    )
"""
CONFIG = """
imports = ["code/own.py"]

[data]
name = "own_images"

[model]
name = "own_network"

[train]
epochs = 2
batch_size = 32
threads = 1

[test]
samples = 8
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A configuration that imports a file, which imports one beside it; forgotten after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(DATASETS, "_values", dict(DATASETS._values))
    monkeypatch.setattr(MODELS, "_values", dict(MODELS._values))
    code = tmp_path / "setup" / "code"
    code.mkdir(parents=True)
    (code / "own.py").write_text(OWN)
    (code / "beside.py").write_text('CLASSES = ("dark", "bright")\n')
    path = tmp_path / "setup" / "own.toml"
    path.write_text(CONFIG)
    yield path
    for name in [name for name in sys.modules if name.startswith(("own_", "mine_", "beside"))]:
        del sys.modules[name]


def test_the_example_of_the_documentation_runs(config: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    section = page.partition("\n## Your own dataset and network\n")[2]
    for kind, name in (("python", "mine.py"), ("toml", "mine.toml"), ("sh", "mine.sh")):
        Path(name).write_text(section.partition(f"```{kind}\n")[2].partition("```")[0])
    for line in Path("mine.sh").read_text().splitlines():
        assert execute(shlex.split(line.removeprefix("tinyboost "))) == 0


def test_a_run_remembers_its_modules_and_trains_anew_when_they_change(
    config: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert execute(["train", "-c", str(config), "-o", "run", "-q"]) == 0
    config.unlink()
    assert execute(["train", "-o", "run"]) == 0
    assert "nothing changed" in capfd.readouterr().err
    with (config.parent / "code" / "own.py").open("a") as file:
        file.write("# other code\n")
    assert execute(["train", "-o", "run"]) == 0
    assert "training own_network" in capfd.readouterr().err


def test_the_runs_of_a_sweep_import_what_their_base_does(
    config: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("sweep.toml").write_text('base = "setup/own.toml"\n[[arms]]\nname = "plain"\n')
    assert execute(["sweep", "sweep.toml", "-o", "runs", "--json"]) == 0, capfd.readouterr().err
    assert json.loads(capfd.readouterr().out)["finished"] == 1


def test_files_are_found_from_the_configuration_or_the_command(config: Path) -> None:
    own = str(config.parent / "code" / "own.py")
    resolved = load_config(config)
    assert resolved.imports == (own,)
    Path("other.toml").write_text(to_toml(resolved))
    assert load_config(Path("other.toml")) == resolved
    assert load_config(config, ['imports=["setup/code/own.py", "json"]']).imports == (own, "json")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.py", None, r"imports: \S*/absent\.py: no such file"),
        ("no_such_module", None, "imports: no module named 'no_such_module': install it, or give the path"),
        ("bad.py", "x = 1\n\ny = x / 0\n", r"bad\.py, line 3: ZeroDivisionError: division by zero"),
        ("bad.py", "import json\njson.loads('{')\n", r"bad\.py, line 2: JSONDecodeError: Expecting"),
        ("bad.py", "x = (\n", r"bad\.py: SyntaxError: '\(' was never closed \(bad\.py, line 1\)"),
        ("bad.py", "import no_such_module\n", r"bad\.py, line 1: ModuleNotFoundError: No module named"),
        ("bad.py", "raise ValueError('two\\nlines')\n", r"bad\.py, line 1: ValueError: two lines$"),
    ],
)
def test_what_is_wrong_with_a_module_is_told_in_one_line(
    tmp_path: Path, name: str, content: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", sys.path[:])
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        import_all([str(tmp_path / name) if name.endswith(".py") else name])
    assert "\n" not in str(caught.value)
    assert not any(module.startswith("bad_") for module in sys.modules)


def test_a_failing_module_ends_the_command(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (config.parent / "code" / "own.py").write_text("import trainer\ntrainer.fly()\n")
    assert execute(["train", "-c", str(config), "-o", "run"]) == 2
    error = capfd.readouterr().err
    assert "own.py, line 2: AttributeError: module 'trainer' has no attribute 'fly'" in error
    assert error.count("\n") == 1
