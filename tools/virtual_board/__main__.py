"""`python -m tools.virtual_board firmware.elf`: runs an image by hand."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from common.errors import ExitCode, UserError
from converter.board import load_board
from tools.virtual_board.board import VirtualBoard
from tools.virtual_board.service import Service
from tools.virtual_board.snapshot import DEFAULT_DEADLINE


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.virtual_board",
        description="Run a firmware image in the virtual board; its UART is on a TCP port and a pty.",
    )
    parser.add_argument("elf", type=Path, help="the image that would be flashed")
    parser.add_argument("--board", default="stm32f746g_disco", help="name of the board")
    parser.add_argument("--port", type=int, default=0, help="TCP port on this machine (default: any)")
    parser.add_argument("--pty", type=Path, help="make a link of this name to the pseudo terminal")
    parser.add_argument(
        "--deadline",
        type=int,
        default=DEFAULT_DEADLINE,
        help="instructions between two times that the firmware waits for the host",
    )
    return parser.parse_args(arguments)


class _Log:
    """Prints warnings and faults as they come."""

    def __init__(self, board: VirtualBoard) -> None:
        self._board = board
        self._warnings = self._faults = 0

    def __call__(self) -> None:
        for warning in self._board.warnings[self._warnings :]:
            sys.stderr.write(f"warning: {warning}\n")
        for fault in self._board.faults[self._faults :]:
            sys.stderr.write(f"{fault}\n")
        self._warnings, self._faults = len(self._board.warnings), len(self._board.faults)


@contextmanager
def _until_interrupted() -> Iterator[BinaryIO]:
    """Give a stream that ends with the first Ctrl-C; the second one raises KeyboardInterrupt.

    An exception could come inside of a callback of the emulator, where it would be lost.
    """
    reading, writing = os.pipe()

    def interrupt(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.close(writing)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with os.fdopen(reading, "rb", buffering=0) as stream:
            yield stream
    finally:
        if signal.signal(signal.SIGINT, before) is interrupt:
            os.close(writing)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = _parse(arguments)
    try:
        with _until_interrupted() as interruption:
            service = Service(options.port, options.pty, interruption)
            try:
                board = VirtualBoard(load_board(options.board), options.elf, service.send, options.deadline)
                sys.stdout.write(f"{service.url}\n{service.pty or ''}\n")
                sys.stdout.flush()
                service.run(board, _Log(board))
            finally:
                service.close()
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return int(error.exit_code)
    except KeyboardInterrupt:
        pass
    return int(ExitCode.INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
