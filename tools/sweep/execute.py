"""Trains the runs of a sweep, several at once, each in a process of its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from common.errors import ConfigError
from tools.config import RunConfig
from tools.sweep.ledger import Entry, Ledger
from tools.sweep.progress import Progress

_POLL_SECONDS = 0.2
_REFRESH_SECONDS = 1.0
_GRACE_SECONDS = 10.0
_LOCK_SECONDS = 5.0


@dataclass(frozen=True)
class _Training:
    entry: Entry
    process: subprocess.Popen[bytes]
    started: float
    seconds_before: float

    @property
    def overhead(self) -> float:
        """Seconds since its start in which it did no epochs."""
        trained = self.entry.history.total_seconds - self.seconds_before
        return max(0.0, time.monotonic() - self.started - trained)


def default_jobs(configs: Iterable[RunConfig], cores: int | None = None) -> int:
    """How many runs fit the machine at once: its cores, by the threads that the largest run uses.

    A run with `train.threads` unset takes all cores.
    """
    available = cores or len(os.sched_getaffinity(0))
    most = max(config.train.workers * (config.train.threads or available) for config in configs)
    return max(1, available // most)


def train_all(ledger: Ledger, jobs: int, progress: Progress) -> None:
    """Train all runs that have not ended, `jobs` at once; a failed one does not stop the others.

    Raises KeyboardInterrupt on SIGINT and SIGTERM, after the trainings were stopped: each goes on from its
    last checkpoint next time. Raises ConfigError where another sweep is at work in the same folder.
    """
    with _locked(ledger.plan.folder) as lock, _stopped_by_sigterm():
        running: list[_Training] = []
        refreshed = 0.0
        try:
            while True:
                for entry in ledger.of("ready")[: jobs - len(running)]:
                    running.append(_start(entry, lock))
                    progress.started(entry)
                if not running:
                    return
                time.sleep(_POLL_SECONDS)
                for training in [one for one in running if one.process.poll() is not None]:
                    running.remove(training)
                    ledger.finish(training.entry, training.overhead, _failure(training))
                    progress.ended(training.entry)
                    ledger.refresh()
                if time.monotonic() - refreshed > _REFRESH_SECONDS:
                    refreshed = time.monotonic()
                    progress.refresh()
        finally:
            _stop(running)


def _start(entry: Entry, lock: int) -> _Training:
    entry.folder.prepare(entry.config, entry.needs)
    entry.state, entry.begun = "running", True
    command = [sys.executable, "-m", "tools.sweep.child", "train", "--resume", "-o", str(entry.run.folder)]
    with entry.folder.log.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=(lock,),
        )
    return _Training(entry, process, time.monotonic(), entry.history.total_seconds)


def _failure(training: _Training) -> str | None:
    code = training.process.returncode
    if code == 0:
        return None
    if code < 0:
        return f"killed by {signal.Signals(-code).name}" + (", out of memory?" if code == -9 else "")
    return training.entry.folder.last_line() or f"exit code {code}"


def _stop(trainings: list[_Training]) -> None:
    """Interrupt what still runs, and end by force what does not heed that."""
    deadline = time.monotonic() + _GRACE_SECONDS
    for training in trainings:
        _signal(training.process, signal.SIGTERM)
    for training in trainings:
        try:
            training.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _signal(training.process, signal.SIGKILL)
            training.process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal a process and its own children: it leads a process group."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)


@contextlib.contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """Hold the folder's lock, which the trainings inherit; those of a killed sweep end within seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ConfigError(
                        f"{folder}: another sweep is at work there; wait for it, or give another -o"
                    ) from None
                time.sleep(_POLL_SECONDS)
        yield file.fileno()
