"""The `tinyboost` command: one file per verb."""

from __future__ import annotations

import sys

from common.errors import ExitCode, UserError
from tools import console


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
        console.err.print(f"error: {error}", markup=False, soft_wrap=True)
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
