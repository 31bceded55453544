"""`python -m tools.sweep.child ...`: the tinyboost command as a sweep runs it, which ends with the sweep."""

from __future__ import annotations

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Run the command, which SIGTERM interrupts as Ctrl-C does; Linux sends one when the parent has ended."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    from tools.cli import main as tinyboost

    tinyboost()


if __name__ == "__main__":
    main()
