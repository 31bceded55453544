"""The run folder: a stage runs when something changed, and its record says what was read and written."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from common.errors import CheckpointError, ConfigError
from tools.runs import RunFolder


class Stage:
    """A stage that copies `source` to `result` and counts its runs."""

    def __init__(self, folder: Path) -> None:
        self.run = RunFolder(folder, 'made = "by a test"\n')
        folder.mkdir()
        self.source, self.result = folder / "source", folder / "result"
        self.source.write_text("first")
        self.runs = 0

    def work(self) -> dict[str, Any]:
        self.runs += 1
        self.result.write_bytes(self.source.read_bytes())
        return {"bytes": self.result.stat().st_size}

    def __call__(self, **config: Any) -> bool:
        _, ran = self.run.stage("copy", self.work, config=config, inputs=[self.source], outputs=[self.result])
        return ran


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path / "run")


def test_unchanged_stage_is_kept(stage: Stage) -> None:
    assert [stage(), stage()] == [True, False]
    assert stage.runs == 1


def test_changed_input_config_or_output_runs_it_again(stage: Stage) -> None:
    stage()
    stage.source.write_text("second")
    assert stage()
    assert stage(speed=2)
    stage.result.write_text("spoilt")
    assert stage(speed=2)
    stage.result.unlink()
    assert stage(speed=2)
    assert not stage(speed=2)


def test_record_holds_digests_versions_and_result(stage: Stage) -> None:
    stage(speed=1)
    record = json.loads(stage.run.manifest_file.read_text())["stages"]["copy"]
    digest = sha256(b"first").hexdigest()
    assert record["inputs"] == {"source": digest}
    assert record["outputs"] == {"result": digest}
    assert record["result"] == {"bytes": 5}
    assert record["config"] == {"speed": 1}
    assert {"torch", "git", "python"} <= record["versions"].keys()
    assert stage.run.config.read_text() == 'made = "by a test"\n'


@pytest.mark.parametrize("error", [ConfigError, KeyboardInterrupt])
def test_unfinished_stage_leaves_its_configuration_and_no_record(
    stage: Stage, error: type[BaseException]
) -> None:
    def fail() -> None:
        raise error("no")

    with pytest.raises(error):
        stage.run.stage("copy", fail, config={}, outputs=[stage.result])
    assert not stage.run.manifest_file.exists()
    assert stage.run.config.read_text() == 'made = "by a test"\n'


@pytest.mark.parametrize(
    ("error", "left"), [(ConfigError, "earlier"), (CheckpointError, "earlier"), (KeyboardInterrupt, "later")]
)
def test_refused_configuration_gives_way_to_the_earlier(
    stage: Stage, error: type[BaseException], left: str
) -> None:
    def fail() -> None:
        raise error("no")

    stage.run.config.write_text("earlier")
    with pytest.raises(error):
        RunFolder(stage.run.path, "later").stage("copy", fail, config={}, outputs=[stage.result])
    assert stage.run.config.read_text() == left


def test_folder_outputs_are_digested_whole(stage: Stage) -> None:
    folder = stage.run.path / "generated"

    def work() -> None:
        folder.mkdir(exist_ok=True)
        (folder / "model.cc").write_text("one")

    def again() -> bool:
        return stage.run.stage("generate", work, config={}, outputs=[folder])[1]

    assert [again(), again()] == [True, False]
    (folder / "more").write_text("two")
    assert again()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1, "stages": {"train": {}}}'])
def test_damaged_manifest_is_one_clear_error(stage: Stage, text: str) -> None:
    stage.run.manifest_file.write_text(text)
    with pytest.raises(ConfigError, match=r"manifest\.json: damaged"):
        stage()


def test_absent_artefact_names_the_command_that_makes_it(stage: Stage) -> None:
    with pytest.raises(ConfigError, match="tinyboost convert -o"):
        stage.run.need(stage.run.tflite, "convert")
