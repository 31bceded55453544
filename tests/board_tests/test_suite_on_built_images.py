"""The suite against real images of a tiny model; tflite-micro knows the right answers."""

from pathlib import Path

import pytest
from tiny_run import generate_code, tiny_inputs, write_run

import board_tests.answers  # noqa: F401 - before pytester, so that no nested session loads it anew
from converter.board import load_board
from converter.reference import reference_outputs
from tools.build import build_firmware
from tools.results import BoardResults
from tools.runs import REPOSITORY

pytest_plugins = "pytester"
BOARD = load_board("stm32f746g_disco")


@pytest.mark.parametrize(
    ("target", "preset"), [("host", "host-sanitize"), ("virtual", BOARD.name)], ids=["host", "virtual"]
)
def test_whole_suite_passes(target: str, preset: str, tmp_path: Path, pytester: pytest.Pytester) -> None:
    generate_code(tmp_path / "generated")
    build_firmware(tmp_path / "generated", tmp_path / "build" / preset, preset, BOARD)
    inputs = tiny_inputs(20)
    write_run(tmp_path, inputs, reference_outputs(tmp_path / "generated" / "model.tflite", inputs))
    common = ["-q", "-c", f"{REPOSITORY}/pyproject.toml", "--rootdir", f"{REPOSITORY}"]
    done = pytester.runpytest_inprocess(
        f"{REPOSITORY}/board_tests",
        *common,
        "--run",
        str(tmp_path),
        "--target",
        target,
        "-p",
        "no:hypothesispytest",
    )
    assert done.ret == 0, str(done.stdout)
    results = BoardResults.load(tmp_path / "board.json")
    assert results.complete
    assert (results.samples, results.output_mismatches) == (20, 0)
    assert [layer.op for layer in results.layers] == ["CONV_2D", "RESHAPE", "FULLY_CONNECTED"]
    if target == "virtual":
        assert results.instructions is not None
        assert len(set(results.counts)) <= 2
        assert results.ram is not None
        assert 0 < results.ram.stack < BOARD.stack.reserve
