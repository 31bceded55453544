"""What a training recorded of its epochs, read from `train/log.csv`."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from common.errors import ConfigError


@dataclass(frozen=True)
class History:
    """A value for each epoch; `seconds` are cumulated, accuracies are NaN where there are none."""

    epochs: tuple[int, ...] = ()
    test: tuple[float, ...] = ()
    train: tuple[float, ...] = ()
    seconds: tuple[float, ...] = ()

    @property
    def done(self) -> int:
        """How many epochs lie behind."""
        return len(self.epochs)

    @property
    def total_seconds(self) -> float:
        """Seconds of all epochs."""
        return self.seconds[-1] if self.seconds else 0.0


def read_history(path: Path) -> History:
    """Read a training's log; an empty history where there is none.

    Raises:
        ConfigError: the file is no such table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return History(
            epochs=tuple(int(row["epoch"]) for row in rows),
            test=tuple(float(row["accuracy"] or math.nan) for row in rows),
            train=tuple(float(row["train_accuracy"] or math.nan) for row in rows),
            seconds=tuple(accumulate(float(row["seconds"]) for row in rows)),
        )
    except FileNotFoundError:
        return History()
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise ConfigError(f"{path}: not a training log ({error!r}); delete its run folder") from None
