"""Sweeps that train for real: failures, needs, restarts, interruptions, two at once."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
from sweep_files import write_sweep

from tools.cli import execute

SWEEP = """
[[arms]]
name = "teacher"

[[arms]]
name = "student"
needs = ["teacher"]
set = { train.objective = "kd", train.distillation.teacher = "{run:teacher}/train", train.epochs = 3 }

[[arms]]
name = "broken"
set = { data.name = "npz", data.path = "absent.npz" }

[[arms]]
name = "behind"
needs = ["broken"]
set = { train.initial = "{run:broken}/train" }
"""
TIMEOUT = 120


def sweep(capfd: pytest.CaptureFixture[str], folder: Path, *more: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, JSON and log of a sweep of `folder`, in `folder`/runs."""
    command = ["sweep", str(folder / "sweep.toml"), "-o", str(folder / "runs"), "--json", *more]
    code = execute(command)
    captured = capfd.readouterr()
    return code, json.loads(captured.out), captured.err


def test_arms_are_trained_in_order_and_a_failure_stops_no_other(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_sweep(tmp_path, SWEEP)
    code, found, log = sweep(capfd, tmp_path, "--jobs", "2")
    assert code == 1
    assert [arm["arm"] for arm in found["arms"]] == ["teacher", "student"]
    assert [(failure["run"], failure["state"]) for failure in found["failed"]] == [
        ("broken/default/seed0", "failed"),
        ("behind/default/seed0", "blocked"),
    ]
    assert "absent.npz: no such file" in found["failed"][0]["message"]
    assert "absent.npz: no such file" in log
    assert log.index("teacher/default/seed0: test") < log.index("student/default/seed0: started")

    runs = tmp_path / "runs"
    student = tomllib.loads((runs / "student/default/seed0/config.toml").read_text())
    assert student["train"]["distillation"]["teacher"] == str(runs / "teacher/default/seed0/train")
    for arm in found["arms"]:
        manifest = json.loads((runs / arm["arm"] / "default/seed0/manifest.json").read_text())
        result = manifest["stages"]["train"]["result"]
        assert arm["accuracy"]["values"] == [result["accuracy"]]
        assert arm["train_accuracy"]["mean"] == result["train_accuracy"]
        assert (arm["macs"], arm["parameters"]) == (result["macs"], result["parameters"])
        assert len(arm["curves"]["test"]["mean"]) == arm["epochs"]
        assert arm["curves"]["test"]["mean"][-1] == pytest.approx(result["accuracy"])

    # Only what failed, and what waited for it, is tried again.
    text = (tmp_path / "sweep.toml").read_text()
    (tmp_path / "sweep.toml").write_text(text.replace('data.name = "npz", data.path = "absent.npz"', ""))
    code, found, log = sweep(capfd, tmp_path, "--jobs", "2")
    assert code == 0
    assert "teacher/default/seed0" not in log
    assert "student/default/seed0" not in log
    assert [arm["arm"] for arm in found["arms"]] == ["teacher", "student", "broken", "behind"]
    assert found["failed"] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_sweep_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    path = write_sweep(tmp_path, '[[arms]]\nname = "plain"\nset = { train.epochs = 12 }\n')
    runs = tmp_path / "runs"
    log = runs / "plain/default/seed0/train/log.csv"
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.cli", "sweep", str(path), "-o", str(runs)],
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: log.exists() and log.read_text().count("\n") >= 3)
    process.send_signal(number)
    _, said = process.communicate(timeout=TIMEOUT)
    if number == signal.SIGTERM:
        assert process.returncode == 130
        assert "0 of 1 runs have finished; the same command goes on from there" in said
    wait_until(lambda: lock_is_free(runs))  # the training has ended with the sweep
    before = log.read_text().splitlines()[:3]

    code, found, _ = sweep(capfd, tmp_path)
    assert code == 0
    assert found["arms"][0]["epochs"] == 12
    assert log.read_text().splitlines()[:3] == before
    assert "resuming after epoch" in (runs / "plain/default/seed0/train.log").read_text()


@pytest.mark.parametrize("setting", ['data.path="absent"', 'imports=["absent.py"]'])
def test_what_every_run_would_miss_is_told_before_any_starts(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], setting: str
) -> None:
    path = write_sweep(tmp_path, '[[arms]]\nname = "plain"\n[[arms]]\nname = "other"\n')
    assert execute(["sweep", str(path), "-o", str(tmp_path / "runs"), "--set", setting]) == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert "no such file" in error
    assert not (tmp_path / "runs").exists()


def test_two_sweeps_do_not_share_a_folder(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.sweep.execute._LOCK_SECONDS", 0.0)
    path = write_sweep(tmp_path, '[[arms]]\nname = "plain"\n')
    runs = tmp_path / "runs"
    runs.mkdir()
    with (runs / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert execute(["sweep", str(path), "-o", str(runs)]) == 2
    assert "another sweep is at work there" in capfd.readouterr().err
    assert [entry.name for entry in runs.iterdir()] == [".lock"]


def test_the_parent_loads_nothing_heavy() -> None:
    code = (
        "import sys, tools.sweep.execute, tools.sweep.progress, tools.sweep.ledger;"
        "heavy = {'torch', 'tensorflow', 'onnx', 'matplotlib', 'sklearn', 'scipy'} & set(sys.modules);"
        "sys.exit(f'loads {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def lock_is_free(runs: Path) -> bool:
    with (runs / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def wait_until(condition: Any) -> None:
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)
