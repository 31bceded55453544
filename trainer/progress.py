"""How a training shows its progress: a bar on a terminal, otherwise one log line per epoch."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Protocol, Self

from trainer.history import EpochRow

_log = logging.getLogger("trainer")


class Progress(Protocol):
    """Told of every step and epoch, between entering and leaving it."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def step(self) -> None:
        """A step was done."""

    def epoch(self, row: EpochRow) -> None:
        """An epoch was done."""


def make_progress(epochs: int, steps_per_epoch: int, done: int, show_bar: bool | None) -> Progress:
    """Choose by `show_bar`, or where it is None by whether stderr is a terminal; `done` epochs lie behind."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal if show_bar is None else show_bar:
        from trainer.progress_bar import ProgressBar

        return ProgressBar(console, epochs, steps_per_epoch, done)
    return LogLines(epochs, done)


class LogLines:
    """One INFO line per epoch, with the time that is left."""

    def __init__(self, epochs: int, done: int) -> None:
        self._epochs = epochs
        self._first = done
        self._seconds = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def step(self) -> None:
        """Steps are not logged."""

    def epoch(self, row: EpochRow) -> None:
        """Log the epoch."""
        self._seconds += row.seconds
        left = self._seconds / (row.epoch - self._first) * (self._epochs - row.epoch)
        _log.info(
            "epoch %d/%d: %s, %.1f s, ETA %.0f s", row.epoch, self._epochs, row.figures, row.seconds, left
        )
