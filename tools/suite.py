"""Runs the board tests in a pytest of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from common.errors import ConfigError, ExitCode, LinkError, NoBoardError, ToolMissingError, UserError
from tools.runs import REPOSITORY, RunFolder

if TYPE_CHECKING:
    from tools.config import RunConfig, TargetName

SUITE = REPOSITORY / "board_tests"
_FAILURES: dict[int, type[UserError]] = {
    ExitCode.NO_BOARD: NoBoardError,
    ExitCode.LINK: LinkError,
    ExitCode.TOOL_MISSING: ToolMissingError,
}


def run_suite(run: RunFolder, target: TargetName, config: RunConfig, options: Sequence[str] = ()) -> bool:
    """Run the suite on the image of `run`; pytest's output goes to stderr. Gives whether all tests passed.

    Raises:
        ConfigError: pytest found no tests or did not understand `options`.
    """
    command = [
        *(sys.executable, "-m", "pytest", str(SUITE), "-q", "--no-header", "-p", "no:cacheprovider"),
        *("-p", "no:hypothesispytest"),
        *("-c", str(REPOSITORY / "pyproject.toml"), "--rootdir", str(REPOSITORY)),
        *("--run", str(run.path), "--target", target, "--samples", str(config.test.samples)),
        *(f"--junit-xml={run.junit}", *options),
    ]
    done = subprocess.run(command, stdout=sys.stderr, check=False)
    if done.returncode in (0, 1):
        return done.returncode == 0
    if done.returncode in _FAILURES:
        raise _FAILURES[done.returncode]("the board tests stopped; the reason stands above")
    if done.returncode == 2:  # pytest's own code for Ctrl-C
        raise KeyboardInterrupt
    raise ConfigError(f"pytest could not run the board tests (exit code {done.returncode}); see above")
