"""The `tinyboost` command: one file per verb."""

from __future__ import annotations

import errno
import sys

from common.errors import ExitCode, UserError
from tools import console

_FREE = "free some, then give the same command again, train with --resume"
_PERMIT = "allow it, or give another folder with -o"
_REMEDIES = {
    errno.ENOSPC: _FREE,
    errno.EDQUOT: _FREE,
    errno.EACCES: _PERMIT,
    errno.EPERM: _PERMIT,
    errno.EROFS: _PERMIT,
}


def main() -> None:
    """Run the command line and exit with its code; a user's mistake prints one line on stderr."""
    sys.exit(execute(sys.argv[1:]))


def execute(arguments: list[str]) -> int:
    """Run one command line and give its exit code."""
    from tools.cli.app import app

    try:
        code = app(arguments, prog_name="tinyboost", standalone_mode=True)
    except SystemExit as stop:
        code = stop.code
    except UserError as error:
        label = "interrupted" if error.exit_code is ExitCode.INTERRUPTED else "error"
        console.err.print(f"[bold red]{label}:[/] ", end="")
        console.err.print(str(error), markup=False, soft_wrap=True)
        return int(error.exit_code)
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)
    except OSError as error:
        console.err.print(f"error: {_in_words(error)}", markup=False, soft_wrap=True)
        return int(ExitCode.USAGE)
    except Exception as error:
        if console.debugging():
            raise
        text = (
            f"internal error, a bug of tinyboost: {type(error).__name__}: {error} (-v prints the traceback)"
        )
        console.err.print(text, markup=False, soft_wrap=True)
        return int(ExitCode.CHECK_FAILED)
    return code if isinstance(code, int) else int(ExitCode.OK)


def _in_words(error: OSError) -> str:
    """Where a file could not be read or written, why, and what to do."""
    reason = (error.strerror or str(error)).lower()
    remedy = _REMEDIES.get(error.errno or 0)
    return ": ".join(str(part) for part in (error.filename, reason, remedy) if part)
