"""The whole chain as a user runs it: from training to the report, on scikit-learn's digits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from converter.board import load_board
from tools.cli import execute
from tools.virtual_board.board import Outcome, VirtualBoard

CONFIG = """
[data]
name = "digits"

[model]
stem_channels = 8
stem_stride = 1
stages = [
    { expand_ratio = 1, channels = 8 },
    { expand_ratio = 3, channels = 16, blocks = 2, stride = 2 },
]
last_channels = 32

[train]
method = "netaug"
epochs = 4
batch_size = 64
learning_rate = 0.2
threads = 1
netaug = { width = [1.0, 1.5], expand = [1.0, 1.5], calibration_images = 512 }

[test]
samples = 60
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder on which the whole chain was run."""
    root = tmp_path_factory.mktemp("chain")
    (root / "config.toml").write_text(CONFIG)
    assert execute(["demo", "-c", str(root / "config.toml"), "-o", str(root / "run"), "-q"]) == 0
    return root / "run"


def test_board_answers_as_the_host_does_and_all_is_told(folder: Path) -> None:
    report = json.loads((folder / "report.json").read_text())
    assert report["schema"] == 1
    assert report["samples"] == 60
    assert report["mismatches"] == report["output_mismatches"] == 0
    assert report["accuracy"]["int8"] == report["accuracy"]["board"]
    assert report["accuracy"]["board"] > 0.5
    assert report["latency_ms"] is None
    assert 0 < report["instructions"] < 10_000_000
    assert report["cycles_estimate"] > 0
    ram, flash = report["ram"], report["flash"]
    assert ram["budget"] == 327_680
    assert ram["total"] == ram["arena"] + ram["data_bss"] + ram["stack"] < ram["budget"]
    assert flash["total"] == flash["weights"] + flash["code"] < flash["budget"] == 1_048_576
    assert {"train", "convert", "evaluate", "check", "build", "test"} <= report["stages"].keys()


def test_image_waits_for_the_host_soon_after_reset(folder: Path) -> None:
    elf = folder / "build" / "stm32f746g_disco" / "firmware.elf"
    board = VirtualBoard(load_board("stm32f746g_disco"), elf)
    assert board.run(300_000) is Outcome.IDLE
    assert board.instructions < 10_000


def test_run_folder_holds_every_artefact(folder: Path) -> None:
    names = ["config.toml", "manifest.json", "model.onnx", "model.tflite", "plan.json", "evaluation.npz"]
    names += ["generated/model.cc", "build/stm32f746g_disco/firmware.elf", "board.json", "junit.xml"]
    names += ["train/model.safetensors", "train/model.json", "train/log.csv", "report.html", "report.json"]
    assert [name for name in names if not (folder / name).is_file()] == []


def test_second_run_keeps_what_did_not_change(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    weights = (folder / "train" / "model.safetensors").stat().st_mtime_ns
    model = (folder / "model.tflite").stat().st_mtime_ns
    assert execute(["train", "-o", str(folder)]) == 0
    assert execute(["convert", "-o", str(folder)]) == 0
    assert "nothing changed" in capfd.readouterr().err
    assert (folder / "train" / "model.safetensors").stat().st_mtime_ns == weights
    assert (folder / "model.tflite").stat().st_mtime_ns == model


def test_trained_model_is_bit_exact_on_random_inputs(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = str(folder / "model.tflite")
    assert execute(["bench", model, "-o", str(tmp_path / "bench"), "-n", "20", "--json", "-q"]) == 0
    assert json.loads(capfd.readouterr().out)["bit_exact"] == {"inputs": 20, "mismatches": 0}


def test_inputs_of_ones_own_are_answered_and_written(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with np.load(folder / "evaluation.npz") as arrays:
        inputs, expected = arrays["inputs"][:3], arrays["int8_outputs"][:3]
    np.save(tmp_path / "inputs.npy", inputs)
    arguments = ["run", "-o", str(folder), "--inputs", str(tmp_path / "inputs.npy"), "-n", "3", "--json"]
    assert execute([*arguments, "--outputs", str(tmp_path / "outputs.npy")]) == 0
    answer = json.loads(capfd.readouterr().out)
    assert [sample["equal"] for sample in answer["samples"]] == [True] * 3
    assert np.array_equal(np.load(tmp_path / "outputs.npy").reshape(expected.shape), expected)


def test_over_budget_is_exit_3_and_names_the_peak(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert execute(["build", "-o", str(folder), "--set", "board.ram_bytes=6000"]) == 3
    error = capfd.readouterr().err
    assert "peak at" in error
    assert "too many" in error
