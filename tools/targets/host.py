"""The host build: the harness as a process of this machine, behind a pty."""

from __future__ import annotations

import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import ConfigError, LinkError
from converter.board import Board
from tools.targets.process import running
from tools.targets.target import Target

_START_SECONDS = 10.0


@contextmanager
def open_host(board: Board, image: Path) -> Iterator[Target]:
    """Start the executable `image`; it prints its pty's path on its first line of stdout.

    Raises:
        ConfigError: there is no such executable.
        LinkError: it does not start, or it died before the context ended.
    """
    if not image.is_file():
        raise ConfigError(f"{image}: not there; build it with: tinyboost build --preset host")
    log = image.with_suffix(".log")
    with running([str(image.resolve())], log, log_stdout=False) as process:
        yield Target("host", _read_url(process, image), "nanoseconds", board.uart.baud)


def _read_url(process: subprocess.Popen[bytes], image: Path) -> str:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], _START_SECONDS)
    line = process.stdout.readline().decode(errors="replace").strip() if ready else ""
    if not line.startswith("/"):
        raise LinkError(f"{image} did not print the path of its pty, but '{line}'")
    return line
