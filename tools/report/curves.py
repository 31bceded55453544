"""Training curves from `train/log.csv`."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.errors import ConfigError
from tools.report.content import Curve

# Columns that are drawn: panel and name of the curve.
_CURVES = {
    "loss": ("loss", "train loss"),
    "accuracy": ("accuracy", "test"),
    "train_accuracy": ("accuracy", "train"),
    "learning_rate": ("learning rate", "learning rate"),
}


def read_curves(path: Path) -> tuple[Curve, ...]:
    """Loss, accuracies and learning rate over epochs; none where there is no log.

    Raises:
        ConfigError: the file is no such table.
    """
    if not path.exists():
        return ()
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        epochs = [float(row["epoch"]) for row in rows]
        columns = [column for column in _CURVES if rows and column in rows[0]]
        return tuple(curve for column in columns if (curve := _curve(column, epochs, rows)).values)
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise ConfigError(f"{path}: not a training log ({error}); delete it or train again") from None


def _curve(column: str, epochs: list[float], rows: Sequence[Mapping[str, str]]) -> Curve:
    """The finite values of a column; cells may be empty where an epoch was not evaluated."""
    values = [float(row[column] or "nan") for row in rows]
    points = [(epoch, value) for epoch, value in zip(epochs, values, strict=True) if math.isfinite(value)]
    panel, name = _CURVES[column]
    return Curve(name, panel, tuple(epoch for epoch, _ in points), tuple(value for _, value in points))
