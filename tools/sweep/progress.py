"""How a sweep shows its progress: bars on a terminal, otherwise a log line for each run."""

from __future__ import annotations

import logging
from typing import Protocol, Self

from rich import progress
from rich.console import Console

from tools.report import formats
from tools.sweep.ledger import Entry, Ledger

_log = logging.getLogger(__name__)


class Progress(Protocol):
    """Told when a run starts and ends, and about every second, between entering and leaving it."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def started(self, entry: Entry) -> None:
        """A run was started."""

    def ended(self, entry: Entry) -> None:
        """A run has ended."""

    def refresh(self) -> None:
        """Time has passed."""


def make_progress(ledger: Ledger, jobs: int, console: Console) -> Progress:
    """Bars where `console` is a terminal, else log lines."""
    return Bars(ledger, jobs, console) if console.is_terminal else LogLines(ledger, jobs)


class LogLines:
    """An INFO line for each run that starts or ends, with the time that is left."""

    def __init__(self, ledger: Ledger, jobs: int) -> None:
        self._ledger = ledger
        self._jobs = jobs

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def started(self, entry: Entry) -> None:
        """Log from where it goes on."""
        done = entry.history.done
        _log.info("%s: %s", entry.name, f"goes on after epoch {done}" if done else "started")

    def ended(self, entry: Entry) -> None:
        """Log what came out."""
        ended = sum(other.ended for other in self._ledger.entries.values())
        left = self._ledger.seconds_left(self._jobs)
        rest = "" if not left else f"; ETA {formats.seconds(left)}"
        _log.log(
            logging.INFO if entry.state == "finished" else logging.ERROR,
            "[%d/%d] %s: %s%s",
            ended,
            len(self._ledger.entries),
            entry.name,
            outcome(entry),
            rest,
        )

    def refresh(self) -> None:
        """Nothing to redraw."""


class Bars:
    """A bar for all epochs of all runs, and one for each run at work."""

    def __init__(self, ledger: Ledger, jobs: int, console: Console) -> None:
        self._ledger = ledger
        self._jobs = jobs
        self._lines = LogLines(ledger, jobs)
        self._progress = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.TextColumn("{task.fields[figures]}", markup=False),
            progress.TimeElapsedColumn(),
            console=console,
        )
        self._total = self._progress.add_task("", figures="")
        self._tasks: dict[str, progress.TaskID] = {}

    def __enter__(self) -> Self:
        self.refresh()
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def started(self, entry: Entry) -> None:
        """Add its bar."""
        self._tasks[entry.name] = self._progress.add_task(entry.name, figures="")
        self.refresh()

    def ended(self, entry: Entry) -> None:
        """Leave a line in place of its bar."""
        self._progress.remove_task(self._tasks.pop(entry.name))
        self._lines.ended(entry)
        self.refresh()

    def refresh(self) -> None:
        """Read how many epochs every run has done."""
        entries = list(self._ledger.entries.values())
        done = epochs = 0
        for entry in entries:
            history, whole = entry.history, entry.config.train.epochs
            epochs += whole
            done += whole if entry.ended else history.done
            if entry.name in self._tasks:
                tested = f"test {history.test[-1]:.2%}" if history.done else ""
                self._progress.update(
                    self._tasks[entry.name], total=whole, completed=history.done, figures=tested
                )
        left = self._ledger.seconds_left(self._jobs)
        self._progress.update(
            self._total,
            description=f"{sum(entry.ended for entry in entries)} of {len(entries)} runs",
            total=epochs,
            completed=done,
            figures="" if left is None else f"ETA {formats.seconds(left)}",
        )


def outcome(entry: Entry) -> str:
    """What came of a run, in words."""
    if entry.result is None:
        return f"{entry.state}: {entry.message}"
    split = "validation" if entry.config.data.validation else "test"
    return (
        f"{split} {entry.result.accuracy:.2%}, train {entry.result.train_accuracy:.2%}, "
        f"{formats.seconds(entry.result.seconds)}"
    )
