"""Results go to stdout, logs and progress to stderr."""

from __future__ import annotations

import logging

from rich.console import Console
from rich.logging import RichHandler

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

_WIDTH_WITHOUT_WINDOW = 150


def line(text: str) -> None:
    """Print one line of a result as it is, however long."""
    out.print(text, markup=False, soft_wrap=True)


def for_tables(console: Console) -> Console:
    """The console itself where it is a terminal, else a wide one: a pipe has no window to fit."""
    if console.is_terminal:
        return console
    return Console(file=console.file, width=max(_WIDTH_WITHOUT_WINDOW, console.width), highlight=False)


def debugging() -> bool:
    """Whether -v was given."""
    return logging.getLogger("tools").isEnabledFor(logging.DEBUG)


def set_up_logging(verbosity: int) -> None:
    """Log to stderr: -1 errors only, 0 what the stages do, 1 and more everything, with timestamps."""
    level = {-1: logging.ERROR, 0: logging.INFO}.get(verbosity, logging.DEBUG)
    handler: logging.Handler
    if err.is_terminal:
        handler = RichHandler(
            console=err, show_time=verbosity > 0, show_level=verbosity > 0, show_path=verbosity > 1
        )
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(
            logging.Formatter("%(levelname)s %(name)s: %(message)s" if verbosity > 0 else None)
        )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for package in ("common", "trainer", "converter", "tools", "board_tests"):
        logging.getLogger(package).setLevel(level)
