"""Counting of predictions: how many are right, which classes are confused, which samples to show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]


def differing(first: Labels, second: Labels) -> Labels:
    """Indices [K] where predictions [N] differ."""
    return np.flatnonzero(first != second).astype(np.int64)


def confusion(labels: Labels, predictions: Labels, classes: int) -> npt.NDArray[np.int64]:
    """Confusion matrix int64 [classes, classes]: rows are labels, columns predictions."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (labels, predictions), 1)
    return matrix


def most_confused(matrix: npt.NDArray[np.int64], limit: int) -> list[tuple[int, int, int]]:
    """The largest off-diagonal entries as (label, prediction, count), largest first."""
    errors = matrix.copy()
    np.fill_diagonal(errors, 0)
    order = np.argsort(-errors, axis=None, kind="stable")[:limit]
    rows, columns = np.unravel_index(order, errors.shape)
    entries: Iterable[Sequence[int]] = zip(
        rows.tolist(), columns.tolist(), errors.flat[order].tolist(), strict=True
    )
    return [(row, column, number) for row, column, number in entries if number]
