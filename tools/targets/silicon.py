"""The real board, on its debug probe's serial port."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serial.tools import list_ports

from common.errors import NoBoardError
from converter.board import Board
from tools.targets.target import Target
from tools.virtual_board.image import load_image


def find_port(board: Board) -> str:
    """Device of the one serial port that belongs to the board's debug probe.

    Raises:
        NoBoardError: there is none, or there are several.
    """
    wanted = tuple(int(part, 16) for part in board.probe.usb.split(":"))
    ports = list(list_ports.comports())
    found = [port for port in ports if (port.vid, port.pid) == wanted]
    if not found:
        others = ", ".join(port.device for port in ports) or "none"
        raise NoBoardError(
            f"no {board.title}: no serial port with USB id {board.probe.usb} (ports found: {others}); "
            f"plug the board in, or name its port with --port"
        )
    if len(found) > 1:
        names = ", ".join(f"{port.device} (serial number {port.serial_number})" for port in found)
        raise NoBoardError(f"several boards are plugged in, choose one with --port: {names}")
    return str(found[0].device)


@contextmanager
def open_silicon(board: Board, image: Path, port: str | None) -> Iterator[Target]:
    """The board at `port`, or the one that is plugged in, with `image` flashed.

    Raises:
        NoBoardError: no board is plugged in, or several are and none was chosen.
        ConfigError: the image is absent or damaged.
    """
    yield Target(
        "board", port or find_port(board), "cycles", board.uart.baud, load_image(board, image).name_at
    )
