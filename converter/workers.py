"""Runs a module of this package in a fresh process, where foreign code may print, exit or crash."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_NOISE = ("Traceback", "During handling", "The above exception", "File ", "WARNING", "INFO", "I0", "W0")


_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

# Exit code of a worker whose last line is the reason, in our words.
REFUSED = 3


class WorkerError(Exception):
    """The process failed; the text is the line that tells most of what it said."""


def run_worker(module: str, arguments: Sequence[str], log: Path, timeout_s: float) -> None:
    """Run `python -m module arguments`; everything that it prints goes to the file `log`.

    Raises:
        WorkerError: the process failed, crashed or took more than `timeout_s` seconds.
    """
    # Programs that are installed beside the interpreter must be found, and this package before another.
    beside = Path(sys.executable).parent
    environment = os.environ | {
        "PATH": f"{beside}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "PYTHONUNBUFFERED": "1",
    }
    with log.open("ab") as output:
        try:
            process = subprocess.run(
                [sys.executable, "-P", "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise WorkerError(f"no answer within {timeout_s:.0f} s") from None
    if process.returncode < 0:
        raise WorkerError(f"crashed ({signal.Signals(-process.returncode).name})")
    text = log.read_text(errors="replace")
    if process.returncode == REFUSED:
        raise WorkerError(text.strip().splitlines()[-1])
    if process.returncode > 0:
        raise WorkerError(last_telling_line(text))


def last_telling_line(text: str) -> str:
    """The last line of a program's output that is neither empty nor known noise."""
    for line in reversed(_COLOUR.sub("", text).splitlines()):
        stripped = line.strip()
        if len(stripped) > 3 and not stripped.startswith(_NOISE):
            return "".join(c for c in stripped if c.isprintable())[:300]
    return "it failed without a message"
