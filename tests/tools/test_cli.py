"""The command line as a user meets it: exit codes, one-line errors, help, JSON."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from shared_data import shared_data

from converter.budget import Flash, Layer, Ram, Verdict
from tools import console
from tools.cli import execute
from tools.cli.check import show_verdict

VERBS = ["doctor", "demo", "train", "sweep", "convert", "check", "build", "run", "bench", "test", "report"]
SETTING = ("--set", "train.epochs=3")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run folders go under the test's own folder."""
    monkeypatch.chdir(tmp_path)


def test_help_lists_every_verb_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from tools.cli import execute; code = execute(['--help']);"
        "heavy = {'torch', 'tensorflow', 'onnx', 'matplotlib', 'numba', 'sklearn'} & set(sys.modules);"
        "sys.exit(f'loads {heavy}' if heavy else code)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 0, done.stderr
    assert all(f"\n  {verb} " in done.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_examples(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Examples:\n" in text
    assert f"    tinyboost {verb}" in text
    assert "--json" in text


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (["fly"], 2, "No such command"),
        (["check", "absent.tflite"], 2, "absent.tflite: no such file"),
        (["convert"], 2, "give -o DIR"),
        (["train", "-o", "empty"], 2, "empty/config.toml: no such file"),
        (["train", "-o", "empty", "--resume"], 2, "tinyboost train -c FILE -o empty"),
        (["report", "-o", "empty"], 2, "tinyboost train -c FILE -o empty"),
        (["convert", "-o", "empty", *SETTING], 2, "tinyboost train -o empty"),
        (["check", "-o", "empty", *SETTING], 2, "tinyboost convert -o empty"),
        (["test", "-o", "empty", *SETTING], 2, "tinyboost convert -o empty"),
        (["train", "-o", "x", "--set", "train.epoch=2"], 2, "did you mean 'epochs'?"),
        (["train", "-c", "absent.toml"], 2, "absent.toml: no such configuration file"),
        (["run", "-o", "x", "--target", "moon"], 2, "'moon'"),
    ],
)
def test_mistakes_end_in_one_line_and_leave_nothing(
    arguments: list[str], exit_code: int, words: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert execute(arguments) == exit_code
    captured = capfd.readouterr()
    assert captured.out == ""
    assert words in captured.err
    assert "Traceback" not in captured.err
    assert list(tmp_path.rglob("*.*")) == []


@pytest.mark.parametrize("suffix", [".tflite", ".onnx", ".pth", ""])
@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"TFL3" * 40, bytes(range(256)) * 8])
def test_garbage_models_are_refused(
    suffix: str, content: bytes, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = tmp_path / f"net{suffix}"
    model.write_bytes(content)
    np.save(tmp_path / "inputs.npy", np.zeros((4, 1, 8, 8), np.float32))
    assert execute(["convert", str(model), "--calibration", "inputs.npy", "-o", "run"]) == 2
    error = capfd.readouterr().err
    assert error.count("error:") == 1
    assert f"net{suffix}" in error
    assert "Traceback" not in error
    assert not Path("run", "model.tflite").exists()


def test_absent_calibration_is_named(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"anything")
    assert execute(["convert", "net.onnx", "--calibration", "absent.npy"]) == 2
    assert capfd.readouterr().err.startswith("error: absent.npy: cannot be read")


def test_bug_of_ours_is_one_line_without_v(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr("tools.doctor.examine", fail)
    assert execute(["doctor"]) == 1
    error = capfd.readouterr().err
    assert "ZeroDivisionError: surprise" in error
    assert error.count("\n") == 1
    with pytest.raises(ZeroDivisionError):
        execute(["doctor", "-v"])


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (
            errno.ENOSPC,
            "no space left on device: free some, then give the same command again, train with --res",
        ),
        (errno.EROFS, "read-only file system: allow it, or give another folder with -o"),
    ],
)
def test_a_full_or_forbidden_disk_is_told_before_a_training_starts(
    number: int, words: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("common.files.os.fsync", refuse)
    monkeypatch.setattr("trainer.loop.train", lambda *_, **__: pytest.fail("the training started"))
    assert execute(["train", "-o", "run", *SETTING]) == 2
    assert capfd.readouterr().err.startswith(f"error: run/config.toml: {words}")
    assert list(Path("run").iterdir()) == []


def test_interrupted_training_says_how_to_go_on(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tools.stages.train", interrupt)
    assert execute(["train", "-o", "run", *SETTING]) == 130
    assert capfd.readouterr().err == "interrupted: run: go on from the last checkpoint with --resume\n"


def test_check_of_a_real_model_as_json(capfd: pytest.CaptureFixture[str]) -> None:
    model = shared_data("models", "kws_ref_model.tflite")
    assert execute(["check", str(model), "--json"]) == 0
    verdict = json.loads(capfd.readouterr().out)
    assert verdict["schema"] == 1
    assert verdict["fits"] is True
    assert verdict["macs"] == 2_656_768
    assert len(verdict["layers"]) == 13


@pytest.mark.parametrize(("width", "terminal"), [(40, False), (60, True), (80, True), (120, True)])
def test_the_table_of_check_shortens_names_and_never_numbers(
    width: int, terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = StringIO()
    monkeypatch.setattr(
        console, "out", Console(file=text, width=width, force_terminal=terminal, color_system=None)
    )
    name = "backbone.blocks.16.depthwise.conv"
    layer = Layer(0, "RESIZE_NEAREST_NEIGHBOR", name, 1_327_104, 138_400, 117_840)
    ram, flash = Ram(0, 0, 0, 0, 0), Flash(0, 0, 0, 0)
    show_verdict(Verdict(True, "net", "board", layer.macs, ram, flash, 0, (), (layer,), None))
    row = text.getvalue().splitlines()[1]
    assert len(row.rstrip()) <= width or not terminal
    assert "1,327,104  138,400   117,840" in row
    assert "RESIZE_NEAREST_NEIGHBOR" in row
    assert (name in row) == (not terminal or width == 120)


def test_doctor_knows_what_is_here(capfd: pytest.CaptureFixture[str]) -> None:
    code = execute(["doctor", "--json"])
    answer = json.loads(capfd.readouterr().out)
    missing = [finding for finding in answer["findings"] if finding["required"] and not finding["ok"]]
    assert code == (6 if missing else 0)
    assert all(finding["fix"] for finding in missing)
    assert {"torch", "unicorn", "cmake", "arm-none-eabi-g++"} <= {f["name"] for f in answer["findings"]}
