"""The places where an image runs; to whom talks to one, they look the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from converter.board import Board
from tools.config import TargetName
from tools.targets.target import Target

__all__ = ["Target", "open_target"]


@contextmanager
def open_target(name: TargetName, board: Board, image: Path, port: str | None = None) -> Iterator[Target]:
    """Start or find the target `name` with `image` on it; it ends with the context.

    Args:
        name: where to run.
        board: the board that the image is built for.
        image: the ELF; for "host" the executable. The real board must have been flashed with it.
        port: serial port of the real board, found by its USB id where it is not given.

    Raises:
        NoBoardError: no board is plugged in, or several are and none was chosen.
        ToolMissingError: Renode is not installed.
        LinkError: the target did not start, or died.
        ConfigError: the image is absent or damaged.
    """
    if name == "host":
        from tools.targets.host import open_host as opener
    elif name == "virtual":
        from tools.targets.virtual import open_virtual as opener
    elif name == "renode":
        from tools.targets.renode import open_renode as opener
    else:
        from tools.targets.silicon import open_silicon

        with open_silicon(board, image, port) as target:
            yield target
        return
    with opener(board, image) as target:
        yield target
