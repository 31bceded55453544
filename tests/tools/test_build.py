import re
import shutil
from pathlib import Path

import pytest
from tiny_run import generate_code

from common.errors import CheckFailedError, OverBudgetError, ToolMissingError
from converter.board import FIRMWARE_DIR, load_board
from tools.build import build_error, build_firmware

BOARD = load_board("stm32f746g_disco")
FAKE_MODEL = FIRMWARE_DIR / "tests" / "fake_model"


@pytest.mark.parametrize(
    ("region", "size"), [("RAM", "327,680"), ("FLASH", "1,048,576"), ("ITCM", "16,384"), ("sram1", "245,760")]
)
def test_overflow_names_the_memory_and_the_bytes(region: str, size: str) -> None:
    output = (
        "[12/12] Linking\n"
        "ld: firmware.elf section `.arena' will not fit in region `RAM'\n"
        f"ld: region `{region}' overflowed by 12345 bytes\ncollect2: error: ld returned 1 exit status\n"
    )
    error = build_error(output, Path("build.log"), BOARD)
    assert isinstance(error, OverBudgetError)
    assert f"{region} ({size} bytes) overflows by 12,345 bytes" in str(error)


def test_first_error_is_told() -> None:
    output = "[1/3] Building\nmodel.cc:7:3: error: 'x' was not declared\nmodel.cc:9:3: error: second\n"
    error = build_error(output, Path("some/build.log"), BOARD)
    assert isinstance(error, CheckFailedError)
    assert str(error) == ("the build failed: model.cc:7:3: error: 'x' was not declared (see some/build.log)")


def test_failure_without_an_error_tells_its_last_line() -> None:
    assert "ninja: build stopped" in str(build_error("x\nninja: build stopped\n", Path("log"), BOARD))


def test_missing_programs_say_how_to_install_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "arm-none-eabi-g++" else name)
    with pytest.raises(ToolMissingError, match=r"apt-get install .*gcc-arm-none-eabi"):
        build_firmware(FAKE_MODEL, tmp_path, BOARD.name, BOARD)


def test_missing_model_fails_with_cmakes_reason(tmp_path: Path) -> None:
    with pytest.raises(CheckFailedError, match=r"CMakeLists.txt.*absent.*holds no\s+model\.cc.*build\.log"):
        build_firmware(tmp_path / "absent", tmp_path / "build", "host", BOARD)


def test_code_that_does_not_compile_is_told_with_its_place(tmp_path: Path) -> None:
    shutil.copytree(FAKE_MODEL, tmp_path / "model")
    (tmp_path / "model" / "model.cc").write_text("int oops() { return missing; }\n")
    with pytest.raises(CheckFailedError, match=r"model\.cc:1:21: error: .*missing"):
        build_firmware(tmp_path / "model", tmp_path / "build", "host", BOARD)


def test_arena_too_large_for_the_chip_is_over_budget(tmp_path: Path) -> None:
    folder = generate_code(tmp_path / "generated")
    header = folder / "model.h"
    code, replaced = re.subn(r"(#define TINYBOOST_ARENA_BYTES) \d+", r"\1 330000", header.read_text())
    assert replaced == 1
    header.write_text(code)
    with pytest.raises(OverBudgetError, match=r"RAM \(327,680 bytes\) overflows by"):
        build_firmware(folder, tmp_path / "build", BOARD.name, BOARD)
