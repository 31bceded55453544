"""Training curves from `train/log.csv`."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.errors import ConfigError
from tools.report.content import Curve

_PANELS = {"loss": "loss", "top1": "accuracy", "acc": "accuracy", "ap50": "accuracy", "lr": "learning rate"}


def read_curves(path: Path) -> tuple[Curve, ...]:
    """The losses and accuracies over epochs in a log with a column `epoch`; none where there is no log.

    Raises:
        ConfigError: the file is no such table.
    """
    if not path.exists():
        return ()
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        epochs = [float(row["epoch"]) for row in rows]
        columns = [column for column in (rows[0] if rows else {}) if _panel(column)]
        return tuple(curve for column in columns if (curve := _curve(column, epochs, rows)).values)
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise ConfigError(f"{path}: not a training log ({error}); delete it or train again") from None


def _panel(column: str) -> str | None:
    return next((panel for part, panel in _PANELS.items() if part in column.lower()), None)


def _curve(column: str, epochs: list[float], rows: Sequence[Mapping[str, str]]) -> Curve:
    """The finite values of a column; cells may be empty where an epoch was not evaluated."""
    values = [float(row[column] or "nan") for row in rows]
    points = [(epoch, value) for epoch, value in zip(epochs, values, strict=True) if math.isfinite(value)]
    return Curve(
        name=column.replace("_", " "),
        panel=_panel(column) or column,
        epochs=tuple(epoch for epoch, _ in points),
        values=tuple(value for _, value in points),
    )
