"""What a sweep keeps, trains again, chooses and reports; run folders are filled without any training."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sweep_files import pretend, pretend_all, write_sweep

from tools.cli import execute
from tools.sweep.ledger import Entry, Ledger, seconds_left
from tools.sweep.plan import Plan

TUNED = """
seeds = [0, 1]
[tune]
grid = { "train.learning_rate" = [0.1, 0.2, 0.4] }
set = { "data.validation" = 50 }
[[arms]]
name = "plain"
"""
TWO_ARMS = """
seeds = [0, 1, 2]
[[arms]]
name = "plain"
[[arms]]
name = "long"
set = { "train.epochs" = 4 }
"""
ACCURACIES = {"plain": [0.50, 0.52, 0.55], "long": [0.61, 0.58, 0.66]}


def ledger_of(folder: Path, text: str, *overrides: str) -> Ledger:
    return Ledger(Plan(write_sweep(folder, text), folder / "runs", overrides))


def states(ledger: Ledger) -> dict[str, str]:
    return {entry.name: entry.state for entry in ledger.entries.values()}


def entry_of(ledger: Ledger, name: str) -> Entry:
    return next(entry for entry in ledger.entries.values() if entry.name == name)


def test_a_finished_run_is_kept_until_its_configuration_changes(tmp_path: Path) -> None:
    text = '[[arms]]\nname = "plain"\n'
    pretend(entry_of(ledger_of(tmp_path, text), "plain/default/seed0"), 0.5)
    assert states(ledger_of(tmp_path, text)) == {"plain/default/seed0": "finished"}
    changed = entry_of(ledger_of(tmp_path, text, "train.epochs=5"), "plain/default/seed0")
    assert changed.state == "ready"
    assert changed.history.done == 0
    changed.folder.prepare(changed.config, changed.needs)
    assert not changed.folder.weights.exists(), "what another configuration left cannot be resumed"


def test_runs_that_finished_with_other_settings_are_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ledger = ledger_of(tmp_path, TWO_ARMS, "train.learning_rate=0.3")
    command = ["sweep", str(tmp_path / "sweep.toml"), "-o", str(tmp_path / "runs")]
    told = "finished with other settings (train.learning_rate 0.3, now 0.1): give the same --set to"
    pretend(entry_of(ledger, "plain/default/seed0"), 0.5)
    assert execute([*command, "--dry-run"]) == 0
    assert f"1 run has {told}" in capfd.readouterr().err
    pretend(entry_of(ledger, "long/default/seed0"), 0.5)
    assert execute([*command, "--report-only"]) == 2
    assert f"2 runs have {told}" in capfd.readouterr().err
    assert execute([*command, "--report-only", "--set", "train.learning_rate=0.3"]) == 0
    assert "other settings" not in capfd.readouterr().err


def test_what_training_does_not_read_changes_nothing(tmp_path: Path) -> None:
    text = '[[arms]]\nname = "plain"\n'
    pretend(entry_of(ledger_of(tmp_path, text), "plain/default/seed0"), 0.5)
    assert states(ledger_of(tmp_path, text, "test.samples=7")) == {"plain/default/seed0": "finished"}


@pytest.mark.parametrize("damage", [b"", b"other weights"])
def test_a_run_whose_weights_were_touched_is_trained_again(tmp_path: Path, damage: bytes) -> None:
    text = '[[arms]]\nname = "plain"\n'
    entry = entry_of(ledger_of(tmp_path, text), "plain/default/seed0")
    pretend(entry, 0.5)
    entry.folder.weights.write_bytes(damage)
    assert states(ledger_of(tmp_path, text)) == {"plain/default/seed0": "ready"}


def test_a_student_is_trained_again_after_its_teacher(tmp_path: Path) -> None:
    text = (
        '[[arms]]\nname = "teacher"\n[[arms]]\nname = "student"\nneeds = ["teacher"]\n'
        'set = { "train.initial" = "{run:teacher}/train" }\n'
    )
    teacher, student = "teacher/default/seed0", "student/default/seed0"
    assert states(ledger_of(tmp_path, text)) == {teacher: "ready", student: "waiting"}
    done = pretend_all(ledger_of(tmp_path, text), {teacher: 0.5, student: 0.6})
    assert states(done) == {teacher: "finished", student: "finished"}
    pretend(entry_of(done, teacher), 0.55)
    assert states(ledger_of(tmp_path, text)) == {teacher: "finished", student: "ready"}


def test_the_best_mean_is_chosen_and_an_edge_is_told(tmp_path: Path) -> None:
    tune = "plain/default/tune/learning_rate={}/seed0"
    ledger = ledger_of(tmp_path, TUNED)
    assert states(ledger)["plain/default/seed0"] == "waiting"
    found = {tune.format(0.1): 0.5, tune.format(0.2): 0.7, tune.format(0.4): 0.6}
    ledger = pretend_all(ledger, found)
    (choice,) = ledger.choices.values()
    assert choice.point.values == {"train.learning_rate": 0.2}
    assert choice.edges == ()
    assert choice.held_out
    entry = entry_of(ledger, "plain/default/seed1")
    assert (entry.state, entry.config.train.learning_rate, entry.config.data.validation) == ("ready", 0.2, 0)
    (choice,) = pretend_all(ledger, {tune.format(0.4): 0.8}).choices.values()
    assert choice.edges == ("train.learning_rate",)


def test_a_value_that_could_not_be_trained_is_not_chosen(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, TUNED)
    tune = [entry for entry in ledger.entries.values() if entry.run.stage == "tune"]
    for entry in tune[:-1]:
        ledger.finish(entry, 0.0, "diverged")
    pretend(tune[-1], 0.3)
    ledger.finish(tune[-1], 0.0)
    ledger.refresh()
    assert {entry.config.train.learning_rate for entry in ledger.of("ready")} == {0.4}


def test_runs_behind_failed_ones_are_blocked(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, TUNED)
    for entry in ledger.of("ready"):
        ledger.finish(entry, 0.0, "diverged")
    ledger.refresh()
    assert set(states(ledger).values()) == {"failed", "blocked"}


def test_time_left_is_by_arm_and_by_jobs(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, TWO_ARMS)
    assert seconds_left(ledger.entries.values(), 1) is None
    ledger = pretend_all(ledger, {"plain/default/seed0": 0.5})
    # 5 s an epoch: 2 runs of 2 epochs, 3 of 4.
    assert seconds_left(ledger.entries.values(), 1) == pytest.approx(80)
    assert seconds_left(ledger.entries.values(), 2, overhead=2) == pytest.approx(45)
    assert seconds_left(ledger.entries.values(), 100) == pytest.approx(20)


def test_the_report_agrees_with_numpy_and_scipy(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for entry in ledger_of(tmp_path, TWO_ARMS).entries.values():
        pretend(entry, ACCURACIES[entry.run.arm][entry.run.seed])
    command = ["sweep", str(tmp_path / "sweep.toml"), "-o", str(tmp_path / "runs"), "--report-only", "--json"]
    assert execute([*command, "--figure", str(tmp_path / "curves.svg")]) == 0
    found = json.loads(capfd.readouterr().out)
    assert json.loads((tmp_path / "runs" / "sweep.json").read_text())["arms"] == found["arms"]
    plain, long = found["arms"]
    assert (plain["n"], plain["seconds"], plain["parameters"], plain["macs"]) == (3, 10, 1000, 50_000)
    assert plain["difference"] is None
    for arm in (plain, long):
        values = ACCURACIES[arm["arm"]]
        assert arm["accuracy"]["mean"] == pytest.approx(np.mean(values))
        assert arm["accuracy"]["sd"] == pytest.approx(np.std(values, ddof=1))
        assert arm["curves"]["test"]["mean"][-1] == pytest.approx(np.mean(values))
        assert arm["curves"]["test"]["sd"][0] == pytest.approx(np.std(values, ddof=1) / arm["epochs"])
    welch = stats.ttest_ind(ACCURACIES["long"], ACCURACIES["plain"], equal_var=False)
    interval = welch.confidence_interval(0.95)
    assert long["difference"]["interval"] == pytest.approx([interval.low, interval.high])
    with (tmp_path / "runs" / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["accuracy"]) for row in rows] == [*ACCURACIES["plain"], *ACCURACIES["long"]]

    page = (tmp_path / "runs" / "sweep.html").read_text()
    assert "52.33 ± 2.52 %" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "<script" not in page
    figure = (tmp_path / "curves.svg").read_text()
    assert figure.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert "prefers-color-scheme: dark" in figure
    assert figure.rstrip().endswith("</svg>")


def test_an_arm_can_have_a_reference_of_its_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = TWO_ARMS + '[[arms]]\nname = "longer"\nreference = "long"\nset = { "train.epochs" = 5 }\n'
    for entry in ledger_of(tmp_path, text).entries.values():
        pretend(entry, ACCURACIES.get(entry.run.arm, [0.7, 0.71, 0.73])[entry.run.seed])
    command = ["sweep", str(tmp_path / "sweep.toml"), "-o", str(tmp_path / "runs"), "--report-only", "--json"]
    assert execute(command) == 0
    arms = json.loads(capfd.readouterr().out)["arms"]
    assert [arm["reference"] for arm in arms] == ["plain", "plain", "long"]
    means = [arm["accuracy"]["mean"] for arm in arms]
    assert arms[1]["difference"]["mean"] == pytest.approx(means[1] - means[0])
    assert arms[2]["difference"]["mean"] == pytest.approx(means[2] - means[1])


def test_names_are_escaped_on_the_page(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = '[[arms]]\nname = "a"\ngrid = { "data.fallback" = ["<b>&", "digits"] }\n'
    for entry in ledger_of(tmp_path, text).entries.values():
        pretend(entry, 0.5)
    folder = tmp_path / "runs"
    assert execute(["sweep", str(tmp_path / "sweep.toml"), "-o", str(folder), "--report-only"]) == 0
    assert "fallback <b>&" in capfd.readouterr().out
    assert "<b>&" not in (folder / "sweep.html").read_text()


def test_a_sweep_without_results_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_sweep(tmp_path, TWO_ARMS)
    assert execute(["sweep", str(path), "-o", str(tmp_path / "runs"), "--report-only"]) == 2
    assert "no run has finished yet" in capfd.readouterr().err
    assert execute(["sweep", str(path), "-o", str(tmp_path / "runs"), "--dry-run"]) == 0
    assert "6 runs, 0 finished" in capfd.readouterr().out
    assert execute(["sweep", str(path), "--figure", "curves.png"]) == 2
    assert "write it as FILE.svg" in capfd.readouterr().err
    assert not (tmp_path / "runs").exists()
