"""Renode, on the project's own platform file."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import LinkError
from converter.board import Board
from tools.programs import need_program
from tools.runs import REPOSITORY
from tools.targets.process import last_words, running
from tools.targets.target import Target
from tools.virtual_board.image import load_image

SCRIPT = REPOSITORY / "board_tests" / "renode" / "f746.resc"
_START_SECONDS = 60.0


def renode_command(renode: Path, image: Path, uart_port: int, monitor_port: int) -> list[str]:
    """Command line of a headless Renode that serves the image's UART on a TCP port of this machine."""
    script = "; ".join(
        (f"$bin={_path(image)}", f"$uart_port={uart_port}", f"include {_path(SCRIPT)}", "start")
    )
    return [str(renode), "--disable-xwt", "--plain", "-P", str(monitor_port), "-e", script]


@contextmanager
def open_renode(board: Board, image: Path) -> Iterator[Target]:
    """Run `image` in Renode.

    Raises:
        ToolMissingError: Renode is not installed.
        ConfigError: the image is absent or damaged.
        LinkError: Renode does not start, or it died.
    """
    renode = need_program("renode")
    symbol = load_image(board, image).name_at
    uart_port, monitor_port = _free_ports()
    log = image.with_name("renode.log")
    command = renode_command(renode, image, uart_port, monitor_port)
    with running(command, log, log_stdout=True) as process:
        _wait_until_served(process, uart_port, log)
        yield Target("renode", f"socket://127.0.0.1:{uart_port}", "instructions", board.uart.baud, symbol)


def _path(path: Path) -> str:
    escaped = str(path.resolve()).replace(" ", r"\ ")
    return f"@{escaped}"


def _free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        return first.getsockname()[1], second.getsockname()[1]


def _wait_until_served(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise LinkError(f"Renode does not serve the UART on port {port}: {last_words(log)} (see {log})")
