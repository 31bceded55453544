"""Builds small images for the virtual board with arm-none-eabi-gcc, and runs them."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from converter.board import Board, load_board
from tools.virtual_board.board import VirtualBoard

SOURCES = Path(__file__).parent / "firmware"
BOARD: Board = load_board("stm32f746g_disco")
RESULTS = 0x2000_0000
_CORE = ["-mcpu=cortex-m7", "-mthumb", "-mfpu=fpv5-sp-d16", "-mfloat-abi=hard"]
_FLAGS = [*_CORE, "-O1", "-g", "-nostdlib", "-ffreestanding"]


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="virtual_firmware_")


def _link(name: str, source: Path, options: tuple[str, ...]) -> Path:
    compiler = shutil.which("arm-none-eabi-gcc")
    if compiler is None:
        pytest.skip("arm-none-eabi-gcc is not installed")
    elf = Path(_folder().name) / f"{name}.elf"
    if not elf.exists():
        command = [compiler, *_FLAGS, *options, "-Wl,--build-id=none", "-Wl,--no-warn-rwx-segments"]
        command += [f"-T{SOURCES / 'link.ld'}", str(SOURCES / "start.S"), str(source), "-o", str(elf)]
        subprocess.run(command, check=True, capture_output=True, text=True)
    return elf


def assemble(body: str, symbols: dict[str, int] | None = None) -> Path:
    """Build an image whose start-up code branches to `test`, which is `body`; `symbols` set start.S's."""
    lines = [".syntax unified", ".cpu cortex-m7", ".fpu fpv5-sp-d16", ".thumb", ".text"]
    lines += [f".global {name}\n.set {name}, 0x{value:x}" for name, value in (symbols or {}).items()]
    lines += [".global test", ".type test, %function", ".thumb_func", "test:", body, ".ltorg", ""]
    text = "\n".join(lines)
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    source = Path(_folder().name) / f"{name}.S"
    source.write_text(text)
    return _link(name, source, ())


def echo_image(*defines: str) -> Path:
    """Build `echo.c` with some of its mistakes."""
    return _link(
        "_".join(["echo", *defines]).replace("=", "_"), SOURCES / "echo.c", tuple(f"-D{d}" for d in defines)
    )


def run_assembly(body: str, symbols: dict[str, int] | None = None, limit: int = 10_000_000) -> VirtualBoard:
    """Run `body` until it waits, halts or has used its instructions."""
    board = VirtualBoard(BOARD, assemble(body, symbols))
    board.run(limit)
    return board


def word(board: VirtualBoard, address: int) -> int:
    """Return a word of the chip's memory."""
    value = board.chip.memory.read_word(address)
    assert value is not None
    return value


def symbol(board: VirtualBoard, name: str) -> int:
    """Return the address of a function of the image."""
    return next(function.address for function in board.image.functions if function.symbol == name)
