"""A virtual board in a process of its own, for tests and tools."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from common.errors import ConfigError, LinkError
from converter.board import Board
from tools.virtual_board.snapshot import DEFAULT_DEADLINE, LAYERS, SNAPSHOT, LayerCounts, Snapshot, Start

_ROOT = Path(__file__).resolve().parents[2]
_STOP_SECONDS = 5.0


class VirtualBoardServer:
    """Context manager: while it is open, `elf` runs on a virtual board that clients reach at `url` or `pty`.

    Args:
        board: the board's description.
        elf: the image that would be flashed.
        deadline: instructions that firmware may execute between two times that it waits for the host.

    Attributes:
        url: `socket://127.0.0.1:PORT`, what pyserial opens. Clients may come and go.
        pty: path of a pseudo terminal, None on systems without.

    Raises:
        ConfigError: on entering, the image cannot be read or does not fit the board.
        LinkError: the process died.
    """

    url: str
    pty: str | None

    def __init__(self, board: Board, elf: Path, deadline: int = DEFAULT_DEADLINE) -> None:
        self._start = Start(board=board, elf=elf.absolute(), deadline=deadline)

    def __enter__(self) -> Self:
        path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tools.virtual_board.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=os.environ | {"PYTHONPATH": path},
        )
        try:
            answer = self._ask(self._start.model_dump_json())
            if "error" in answer:
                raise ConfigError(answer["error"])
        except BaseException:
            self.close()
            raise
        self.url, self.pty = answer["url"], answer["pty"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = b""
        if not answer:
            raise LinkError(f"the virtual board died: {self._last_error_line()}")
        decoded: dict[str, Any] = json.loads(answer)
        return decoded

    def _last_error_line(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "no message")

    def snapshot(self) -> Snapshot:
        """Return what the board has counted and noticed."""
        return SNAPSHOT.validate_python(self._ask("snapshot")["snapshot"])

    def reset_counters(self) -> None:
        """Start profile and cycle estimate anew."""
        self._ask("reset_counters")

    def count_layers(self) -> None:
        """Count the layers of the model apart from now on."""
        self._ask("count_layers")

    def layer_counts(self) -> dict[int, LayerCounts]:
        """Return what each layer executed since `count_layers`, by its index, and end that."""
        return LAYERS.validate_python(self._ask("layer_counts")["layers"])

    def reset(self) -> None:
        """Press the reset button."""
        self._ask("reset")
