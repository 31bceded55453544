"""The curves of a training: a CSV file and TensorBoard events."""

from __future__ import annotations

import csv
import io
import os
import socket
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from common.files import write_text

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event


@dataclass(frozen=True)
class EpochRow:
    """What is recorded of an epoch, counted from 1.

    `step` counts all steps so far; `learning_rate` is the last step's; `loss` and `train_accuracy` are
    means over the tiny network's training batches, the second None where the task has none; `accuracy` is on
    the test samples, None where the network was not evaluated; `seconds` include the evaluation. `phase` is
    what the method was at, "" where that is always the same.
    """

    epoch: int
    step: int
    learning_rate: float
    loss: float
    train_accuracy: float | None
    accuracy: float | None
    seconds: float
    phase: str = ""

    @property
    def figures(self) -> str:
        """Loss and accuracies, in words."""
        trained = "" if self.train_accuracy is None else f", train {self.train_accuracy:.2%}"
        tested = "" if self.accuracy is None else f", test {self.accuracy:.2%}"
        return f"loss {self.loss:.3f}{trained}{tested}"


class History:
    """Rows of all epochs so far, kept on disk in `folder`: log.csv and tensorboard/.

    `rows` are those of a training that goes on; TensorBoard then drops what an interrupted process wrote
    after them. Without, old logs are removed.
    """

    def __init__(self, folder: Path, rows: list[EpochRow]) -> None:
        self.rows = rows
        self._csv = folder / "log.csv"
        events = folder / "tensorboard"
        events.mkdir(parents=True, exist_ok=True)
        if not rows:
            for old in events.glob("events.out.tfevents.*"):
                old.unlink()
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._events = _EventFile(events / name, first_step=len(rows) + 1)
        self._write_csv()

    def add(self, row: EpochRow) -> None:
        """Record an epoch."""
        self.rows.append(row)
        self._write_csv()
        values = asdict(row)
        self._events.add(row.epoch, {name: values[name] for name in _CURVES if values[name] is not None})

    def close(self) -> None:
        """Close the event file."""
        self._events.close()

    def _write_csv(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, [field.name for field in fields(EpochRow)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in self.rows)
        write_text(self._csv, text.getvalue())


_CURVES = ("learning_rate", "loss", "train_accuracy", "accuracy", "seconds")


class _EventFile:
    """A TensorBoard event file. torch's SummaryWriter is not used because it imports all of TensorFlow."""

    def __init__(self, path: Path, first_step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event: type[Event] = Event
        self._file = path.open("xb")
        self._records = RecordWriter(self._file)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        start = SessionLog(status=SessionLog.START)
        self._write(Event(wall_time=time.time(), step=first_step, session_log=start))

    def add(self, step: int, values: dict[str, float]) -> None:
        event = self._event(wall_time=time.time(), step=step)
        for name, value in values.items():
            event.summary.value.add(tag=name, simple_value=value)
        self._write(event)

    def close(self) -> None:
        self._file.close()

    def _write(self, event: Event) -> None:
        self._records.write(event.SerializeToString())
        self._records.flush()
