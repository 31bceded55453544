"""The virtual board: the very ELF that is flashed, in an emulated chip."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from converter.board import Board
from tools.targets.target import Target
from tools.virtual_board.image import load_image
from tools.virtual_board.server import VirtualBoardServer


@contextmanager
def open_virtual(board: Board, image: Path) -> Iterator[Target]:
    """Run `image` in the virtual board.

    Raises:
        ConfigError: the image is absent or damaged.
    """
    symbol = load_image(board, image).name_at
    with VirtualBoardServer(board, image) as server:
        url = server.pty or server.url
        yield Target("virtual", url, "instructions", board.uart.baud, symbol, observer=server)
