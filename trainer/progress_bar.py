"""The progress bar on a terminal."""

from __future__ import annotations

from typing import Self

from rich import progress
from rich.console import Console

from trainer.history import EpochRow


class ProgressBar:
    """One bar over all steps, with the last epoch's figures and the time that is left."""

    def __init__(self, console: Console, epochs: int, steps_per_epoch: int, done: int) -> None:
        self._epochs = epochs
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.TextColumn("{task.fields[figures]}"),
            progress.TimeElapsedColumn(),
            progress.TextColumn("ETA"),
            progress.TimeRemainingColumn(),
            console=console,
        )
        self._task = self._bar.add_task(
            self._describe(done), total=epochs * steps_per_epoch, completed=done * steps_per_epoch, figures=""
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def step(self) -> None:
        """Advance by a step."""
        self._bar.advance(self._task)

    def epoch(self, row: EpochRow) -> None:
        """Show the figures of the epoch."""
        self._bar.update(self._task, description=self._describe(row.epoch), figures=row.figures)

    def _describe(self, done: int) -> str:
        return f"epoch {min(done + 1, self._epochs)}/{self._epochs}"
