"""A program that runs as long as its target is open."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from common.errors import LinkError

_GRACE = 5.0
_DYING = 0.5


def last_words(log: Path) -> str:
    """The line of a program's log that says most: the first error, or else the last line."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines[-1:] or ["it said nothing"])[0]


@contextmanager
def running(command: Sequence[str], log: Path, *, log_stdout: bool) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the context ends; its stdin stays open.

    Its stderr goes to `log`, and with `log_stdout` its stdout too, which is a pipe for the caller else.

    Raises:
        LinkError: it cannot be started, or it ended by itself with an error.
    """
    with log.open("wb") as errors:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=errors if log_stdout else subprocess.PIPE,
                stderr=errors,
            )
        except OSError as error:
            raise LinkError(f"{command[0]} cannot be started: {error.strerror}") from error
    try:
        yield process
    except LinkError:
        # Its end is seen on the link a little earlier than here.
        with suppress(subprocess.TimeoutExpired):
            process.wait(_DYING)
        raise
    finally:
        died = process.poll() is not None
        process.terminate()
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()
        if died and process.returncode:
            raise LinkError(
                f"{command[0]} ended with code {process.returncode}: {last_words(log)} (see {log})"
            )
