"""The suite against a board that is played on a pty: what it says when something is wrong."""

import hashlib
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from fake_device import FakeDevice, expected_output, write_least_image
from tiny_run import CLASSES, INPUT_SHAPE, tiny_inputs, tiny_model, write_run

# Loaded once, not in each of the sessions below.
import board_tests.answers  # noqa: F401
import converter.tflite_reader  # noqa: F401
from common.errors import ExitCode
from tools.results import BoardResults
from tools.runs import REPOSITORY

pytest_plugins = "pytester"
SAMPLES = 12


class Finished(NamedTuple):
    code: int
    said: str


Suite = Callable[..., Finished]


def fake(**options: object) -> FakeDevice:
    sha256 = hashlib.sha256(tiny_model()).hexdigest()
    size = int(np.prod(INPUT_SHAPE))
    settings = {"input_bytes": size, "output_bytes": CLASSES, "layers": 3, "model_sha256": sha256, **options}
    return FakeDevice(input_shape=INPUT_SHAPE, **settings)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder whose right answers are the fake's."""
    inputs = tiny_inputs(SAMPLES)
    answers = [np.frombuffer(expected_output(sample.tobytes(), CLASSES), np.int8) for sample in inputs]
    write_least_image(tmp_path / "build" / "stm32f746g_disco" / "firmware.elf")
    return write_run(tmp_path, inputs, np.array(answers))


@pytest.fixture
def suite(run: Path, pytester: pytest.Pytester) -> Suite:
    def start(*options: str) -> Finished:
        common = ["-q", "-c", f"{REPOSITORY}/pyproject.toml", "--rootdir", f"{REPOSITORY}"]
        common += ["-p", "no:hypothesispytest"]  # its summary imports all of hypothesis, each time
        target = ["--run", str(run), "--target", "board", f"--junit-xml={run}/junit.xml"]
        result = pytester.runpytest_inprocess(f"{REPOSITORY}/board_tests", *common, *target, *options)
        return Finished(int(result.ret), f"{result.stdout}{result.stderr}")

    return start


def test_right_answers_pass_and_are_kept(run: Path, suite: Suite) -> None:
    with fake() as device:
        done = suite("--port", device.url, "-k", "accuracy or robustness")
    assert done.code == 0, done.said
    results = BoardResults.load(run / "board.json")
    assert results.complete
    assert (results.samples, results.mismatches, results.output_mismatches) == (SAMPLES, 0, 0)
    assert results.latency_ms == pytest.approx(123_456 / 216_000)
    assert results.instructions is None
    assert [layer.op for layer in results.layers] == ["CONV_2D", "RESHAPE", "FULLY_CONNECTED"]
    assert [layer.count for layer in results.layers] == [100, 101, 102]
    assert results.layers[0].macs == 6 * 6 * 4 * 3 * 3 * 2
    properties = {p.get("name"): p.get("value") for p in ET.parse(run / "junit.xml").iter("property")}
    assert properties["target"] == "board"
    assert properties["git"] == "0123abc"
    assert properties["clock_hz"] == "216000000"
    assert properties["model_sha256"] == device.model_sha256


def test_wrong_answers_fail_and_name_the_sample(run: Path, suite: Suite) -> None:
    with fake(wrong_outputs=True) as device:
        done = suite("--port", device.url, "-k", "every_output")
    assert done.code == ExitCode.CHECK_FAILED
    assert "sample 0" in done.said
    results = BoardResults.load(run / "board.json")
    assert results.output_mismatches == SAMPLES
    assert results.mismatches > 0


def test_another_model_is_refused_with_both_hashes(suite: Suite) -> None:
    with fake(model_sha256="cd" * 32) as device:
        done = suite("--port", device.url, "-k", "every_output")
    assert done.code == ExitCode.CHECK_FAILED
    assert "cd" * 32 in done.said
    assert hashlib.sha256(tiny_model()).hexdigest() in done.said
    assert "Traceback" not in done.said


def test_unplugged_run_goes_on_where_it_stopped(run: Path, suite: Suite) -> None:
    """HELLO takes 4 requests, a sample 3: the plug is pulled in the sixth sample."""
    with fake(unplug_after=20) as device:
        done = suite("--port", device.url, "-k", "accuracy")
    assert done.code == ExitCode.LINK
    assert "went away while" in done.said
    assert (run / "junit.xml").is_file()
    partial = BoardResults.load(run / "board.json")
    assert not partial.complete
    assert len(partial.outputs) == 5
    with fake() as device:
        done = suite("--port", device.url, "-k", "accuracy")
    assert done.code == 0, done.said
    assert device.runs == SAMPLES - 5 + 1
    assert len(BoardResults.load(run / "board.json").outputs) == SAMPLES
    with fake() as device:
        suite("--port", device.url, "-k", "accuracy")
    assert device.runs == SAMPLES + 1


def test_answers_of_another_image_are_not_taken_over(run: Path, suite: Suite) -> None:
    with fake(unplug_after=20) as device:
        suite("--port", device.url, "-k", "accuracy")
    with fake(engine="tflm") as device:
        done = suite("--port", device.url, "-k", "accuracy")
    assert done.code == 0, done.said
    assert device.runs == SAMPLES + 1


def test_without_a_board_tests_skip_or_fail(suite: Suite) -> None:
    done = suite("--port", "/dev/no-such-port", "-k", "accuracy")
    assert done.code == 0
    assert "2 skipped" in done.said
    done = suite("--port", "/dev/no-such-port", "-k", "accuracy", "--require-board")
    assert done.code == ExitCode.NO_BOARD
    assert "/dev/no-such-port does not exist" in done.said


def test_missing_artefacts_name_the_command_that_makes_them(
    run: Path, suite: Callable[..., Finished]
) -> None:
    (run / "evaluation.npz").unlink()
    done = suite("-k", "every_output")
    assert done.code == ExitCode.CHECK_FAILED
    assert "evaluation.npz: not there yet; make it with: tinyboost test" in done.said


def test_samples_limits_the_run(run: Path, suite: Suite) -> None:
    with fake() as device:
        done = suite("--port", device.url, "-k", "accuracy", "--samples", "3")
    assert done.code == 0, done.said
    assert BoardResults.load(run / "board.json").samples == 3


def test_plugin_costs_other_sessions_no_imports(tmp_path: Path) -> None:
    """It is loaded whenever pytest starts in this environment."""
    (tmp_path / "test_nothing.py").write_text(
        "import sys\ndef test():\n    assert not {'numpy', 'serial', 'pydantic', 'tools'} & {*sys.modules}\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:hypothesispytest",
        ".",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
