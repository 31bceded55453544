"""What a training tells of itself while it runs."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from trainer.history import EpochRow, History
from trainer.progress import Progress, make_progress


class Journal:
    """Rows of all epochs so far: kept on disk in `folder`, shown on the terminal or logged.

    `silent` ones, those of all but one of several processes, only count.
    """

    def __init__(
        self,
        folder: Path,
        rows: list[EpochRow],
        *,
        epochs: int,
        steps_per_epoch: int,
        show_progress: bool | None,
        silent: bool,
    ) -> None:
        self.rows = rows
        self._progress: Progress | None = None
        self._history: History | None = None
        if not silent:
            self._progress = make_progress(epochs, steps_per_epoch, len(rows), show_progress)
            self._history = History(folder, rows)

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.__exit__(kind, error, trace)
        if self._history is not None:
            self._history.close()

    def step(self) -> None:
        """A step was done."""
        if self._progress is not None:
            self._progress.step()

    def add(self, row: EpochRow) -> None:
        """An epoch was done."""
        if self._history is None:
            self.rows.append(row)
        else:
            self._history.add(row)
        if self._progress is not None:
            self._progress.epoch(row)
