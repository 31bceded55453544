"""Serves a virtual board to the world: its UART on a TCP port and a pty, and commands on a pair of streams.

One thread does everything. It runs the firmware until that waits for the host, and then waits itself: an
idle board costs no processor time, and a byte from the host reaches the firmware at once.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from common.errors import ConfigError
from tools.virtual_board.board import Outcome, VirtualBoard

_SLICE = 20_000_000  # instructions between two looks at the world, while firmware is busy
_TICK_SECONDS = 0.001  # between two looks at firmware that sleeps until its timer wakes it
_BACKLOG_BYTES = 4096  # kept for the first client of what the firmware sends before there is one
_CHUNK = 65536
_SEND_SECONDS = 5.0


class Pty:
    """A pseudo terminal, its other end kept open so that clients may come and go."""

    def __init__(self, link: Path | None) -> None:
        import pty
        import tty

        self.master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self.master, False)
        self.path = os.ttyname(self._slave)
        self._link = link
        if link is not None:
            try:
                link.symlink_to(self.path)
            except OSError as error:
                raise ConfigError(f"cannot make {link}: {error.strerror}") from error

    def receive(self) -> bytes:
        """Return what a client wrote."""
        try:
            return os.read(self.master, _CHUNK)
        except BlockingIOError:
            return b""

    def send(self, data: bytes) -> None:
        """Send to the client; what does not fit into the terminal is lost."""
        with suppress(BlockingIOError):
            os.write(self.master, data)

    def close(self) -> None:
        """Remove the pty and its link."""
        os.close(self.master)
        os.close(self._slave)
        if self._link is not None:
            self._link.unlink(missing_ok=True)


class Service:
    """Runs `board`, which must have been made with this service's `send` as `on_uart`.

    Args:
        port: TCP port on this machine, 0 for any.
        pty_link: path of a link to the pty.
        commands: stream of command lines; its end ends the service.
        on_command: answers a command line.
    """

    def __init__(
        self,
        port: int = 0,
        pty_link: Path | None = None,
        commands: BinaryIO | None = None,
        on_command: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._selector = selectors.DefaultSelector()
        self._listener = _listen(port)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._client: socket.socket | None = None
        self._backlog = bytearray()
        self._speaker: object = None  # the client that was heard last
        self._pty = Pty(pty_link) if sys.platform != "win32" else None
        if self._pty is not None:
            self._selector.register(self._pty.master, selectors.EVENT_READ, self._hear_pty)
        self._commands = commands
        self._on_command = on_command
        self._partial_command = b""
        if commands is not None:
            self._selector.register(commands, selectors.EVENT_READ, self._hear_command)
        self._ended = False
        self._board: VirtualBoard | None = None

    @property
    def url(self) -> str:
        """What pyserial opens."""
        return f"socket://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def pty(self) -> str | None:
        """Path of the pty, where the system has such."""
        return self._pty.path if self._pty is not None else None

    def run(self, board: VirtualBoard, after_slice: Callable[[], None] = lambda: None) -> None:
        """Run the board until the command stream ends; call `after_slice` whenever something happened."""
        self._board = board
        while not self._ended:
            outcome = board.run(_SLICE)
            after_slice()
            if outcome is Outcome.LIMIT:
                timeout: float | None = 0.0
            else:
                timeout = _TICK_SECONDS if board.ticking and outcome is Outcome.IDLE else None
            for key, _ in self._selector.select(timeout):
                key.data()

    def close(self) -> None:
        """Close port, client and pty."""
        self._selector.close()
        self._listener.close()
        if self._client is not None:
            self._client.close()
        if self._pty is not None:
            self._pty.close()

    def send(self, data: bytes) -> None:
        """Send what the chip says to the client that spoke last; before any did, to whoever may listen."""
        if self._client is not None and self._speaker in (None, self._client):
            self._send_to_client(data)
        elif self._pty is not None and self._speaker is self._pty:
            self._pty.send(data)
        elif self._speaker is None:
            self._backlog = (self._backlog + data)[-_BACKLOG_BYTES:]
            if self._pty is not None:
                self._pty.send(data)

    def _send_to_client(self, data: bytes) -> None:
        assert self._client is not None
        try:
            self._client.sendall(data)
        except OSError:
            self._drop_client()

    def _accept(self) -> None:
        """Take a new client; it replaces an old one, which may have died without a word."""
        client, _ = self._listener.accept()
        if self._client is not None:
            self._drop_client()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.settimeout(_SEND_SECONDS)
        self._client = client
        self._selector.register(client, selectors.EVENT_READ, self._hear_client)
        if self._backlog:
            data, self._backlog = bytes(self._backlog), bytearray()
            self._send_to_client(data)

    def _drop_client(self) -> None:
        assert self._client is not None
        self._selector.unregister(self._client)
        self._client.close()
        self._client = None

    def _hear_client(self) -> None:
        assert self._client is not None
        try:
            data = self._client.recv(_CHUNK)
        except OSError:
            data = b""
        if data:
            self._hear(self._client, data)
        else:
            self._drop_client()

    def _hear_pty(self) -> None:
        assert self._pty is not None
        self._hear(self._pty, self._pty.receive())

    def _hear(self, speaker: object, data: bytes) -> None:
        self._speaker = speaker
        assert self._board is not None
        self._board.uart_send(data)

    def _hear_command(self) -> None:
        assert self._commands is not None
        data = os.read(self._commands.fileno(), _CHUNK)
        if not data:
            self._ended = True
        *lines, self._partial_command = (self._partial_command + data).split(b"\n")
        for line in lines:
            self._on_command(line.decode())


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise ConfigError(f"cannot listen on port {port}: {error.strerror}; choose another --port") from error
