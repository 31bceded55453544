"""CMake, from generated code to an image, with errors that name the reason."""

from __future__ import annotations

import logging
import re
import subprocess
from pathlib import Path

from common.errors import CheckFailedError, OverBudgetError
from converter.board import Board
from tools.programs import need_program
from tools.runs import REPOSITORY

log = logging.getLogger(__name__)

# Presets that build an executable of this machine: host, host-sanitize.
HOST_PRESET = "host"
LOG_NAME = "build.log"
_OVERFLOW = re.compile(r"region [`'](\w+)' overflowed by (\d+) bytes")
# CMake tells the place in one line and the reason, indented, in the next ones.
_CMAKE_ERROR = re.compile(r"CMake Error at .*:\n(?:  .*\n)+")
_ERROR = re.compile(
    r"error:|CMake Error|undefined reference|multiple definition|ASSERT|cannot find", re.IGNORECASE
)


def build_firmware(model_dir: Path, build_dir: Path, preset: str, board: Board) -> Path:
    """Configure and build an image around generated code; all output goes to `build_dir`/build.log.

    Args:
        model_dir: folder with model.cc and model.h.
        build_dir: CMake's binary folder, made where absent.
        preset: a board's name, or "host" or "host-sanitize" for an executable of this machine.
        board: the board whose memories the image must fit.

    Returns:
        Path of the image: firmware.elf, or the executable `firmware`.

    Raises:
        ToolMissingError: CMake, Ninja or the compiler is not installed.
        OverBudgetError: the image does not fit a memory; names it and the bytes that are missing.
        CheckFailedError: the build failed; holds the first error and the log's path.
    """
    on_host = preset.startswith(HOST_PRESET)
    for program in ("cmake", "ninja", "g++" if on_host else "arm-none-eabi-g++"):
        need_program(program)
    build_dir.mkdir(parents=True, exist_ok=True)
    log_path = build_dir / LOG_NAME
    log_path.write_text("")
    model = f"-DTINYBOOST_MODEL_DIR={model_dir.resolve()}"
    binary = str(build_dir.resolve())
    _cmake(["-S", str(REPOSITORY), "--preset", preset, "-B", binary, model], log_path, board)
    _cmake(["--build", binary], log_path, board)
    image = build_dir / ("firmware" if on_host else "firmware.elf")
    if not image.is_file():
        raise CheckFailedError(f"the build ended well but made no {image}; see {log_path}")
    return image


def _cmake(arguments: list[str], log_path: Path, board: Board) -> None:
    command = ["cmake", *arguments]
    log.debug("%s", " ".join(command))
    with log_path.open("a") as output:
        output.write(f"$ {' '.join(command)}\n")
        output.flush()
        done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, cwd=REPOSITORY, check=False)
    if done.returncode:
        raise build_error(log_path.read_text(errors="replace"), log_path, board)


def build_error(output: str, log_path: Path, board: Board) -> OverBudgetError | CheckFailedError:
    """The reason why a build with this output failed."""
    overflow = _OVERFLOW.search(output)
    if overflow:
        region, missing = overflow[1], int(overflow[2])
        sizes = {"ram": board.ram_bytes} | {memory.name: memory.size for memory in board.memory}
        size = sizes[region.lower()]
        return OverBudgetError(
            f"the image does not fit {board.title}: {region} ({size:,} bytes) overflows by {missing:,} "
            f"bytes; a smaller model or input resolution would fit (see {log_path})"
        )
    cmake = _CMAKE_ERROR.search(output)
    lines = ["no output", *(line for line in output.splitlines() if line.strip())]
    reason = cmake[0] if cmake else next((line for line in lines if _ERROR.search(line)), lines[-1])
    return CheckFailedError(f"the build failed: {' '.join(reason.split())} (see {log_path})")
