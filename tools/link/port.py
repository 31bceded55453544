"""A byte stream over any pyserial URL, with errors that say what to do."""

from __future__ import annotations

import errno
import termios
from typing import Any

import serial

from common.errors import LinkError, NoBoardError

# Longer than any frame takes at 9600 baud: a port that does not drain for so long is stuck.
_WRITE_TIMEOUT = 5.0
_LOST = (OSError, termios.error)


class PortLostError(LinkError):
    """The port went away while it was open."""


class Port:
    """An open port: 8N1, no flow control. DTR and RTS stay as the system sets them on opening."""

    def __init__(self, url: str, baud: int, poll: float) -> None:
        """Open `url`: a device path, a pty, `socket://host:port`, ...

        Args:
            url: any pyserial URL.
            baud: baud rate.
            poll: seconds after which a read that sees no byte returns; a byte ends it at once.

        Raises:
            NoBoardError: no such port, or no right to open it.
            LinkError: the port is in use.
        """
        self.url = url
        self._serial: Any
        try:
            self._serial = serial.serial_for_url(
                url, baudrate=baud, timeout=poll, write_timeout=_WRITE_TIMEOUT, exclusive=True
            )
        except (OSError, ValueError, termios.error) as error:
            raise _opening_error(url, error) from error

    def write(self, data: bytes) -> None:
        """Send all of `data`.

        Raises:
            PortLostError: the port went away.
            LinkError: the port takes no bytes.
        """
        try:
            self._serial.write(data)
        except serial.SerialTimeoutException as error:
            raise LinkError(f"{self.url} takes no bytes: is the board halted by a debugger?") from error
        except _LOST as error:
            raise PortLostError(f"{self.url} went away") from error

    def read(self) -> bytes:
        """Bytes as they arrive; waits a little for the first and returns none when there is none.

        Raises:
            PortLostError: the port went away.
        """
        try:
            data: bytes = self._serial.read(1)
            if data and (waiting := self._serial.in_waiting):
                data += self._serial.read(waiting)
        except _LOST as error:
            raise PortLostError(f"{self.url} went away") from error
        return data

    def close(self) -> None:
        """Close the port; again is no error."""
        self._serial.close()


def _opening_error(url: str, error: Exception) -> Exception:
    number = getattr(error, "errno", None)
    text = str(error)
    if number == errno.ENOENT:
        return NoBoardError(
            f"{url} does not exist: is the board plugged in? `tinyboost boards` lists the ports"
        )
    if number in (errno.EACCES, errno.EPERM):
        return NoBoardError(
            f"no permission to open {url}: add yourself to its group with "
            f"`sudo usermod -aG dialout $USER`, then log in again"
        )
    if number in (errno.EBUSY, errno.EAGAIN) or "lock" in text:
        return LinkError(f"{url} is in use by another program: close it (a terminal, or another tinyboost)")
    return NoBoardError(f"cannot open {url}: {text}")
