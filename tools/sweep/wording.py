"""How the table and the page of a sweep say things, so that both say the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tools.report.formats import MISSING, percent
from tools.sweep.report import SweepReport
from tools.sweep.statistics import Difference, Summary


def spread(summary: Summary | None) -> str:
    """Mean ± standard deviation, in per cent."""
    if summary is None:
        return MISSING
    return (
        percent(summary.mean, 2)
        if summary.sd is None
        else f"{100 * summary.mean:.2f} ± {100 * summary.sd:.2f} %"
    )


def difference(found: Difference | None) -> str:
    """A difference in percentage points with its interval."""
    if found is None:
        return MISSING
    text = f"{100 * found.mean:+.2f}"
    if found.interval is None:
        return text
    low, high = found.interval
    return f"{text} ({100 * low:+.2f} to {100 * high:+.2f})"


def settings(values: Mapping[str, Any]) -> str:
    """Values with the last part of their keys."""
    return ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in values.items())


def headline(report: SweepReport) -> str:
    """One sentence: the best arm, and how it compares with the first.

    Arms whose networks have another size than the first one's, as teachers have, are not in the running.
    """
    if not report.shown:
        return "No final run has finished yet."
    first = report.shown[0]
    alike = [row for row in report.shown if (row.parameters, row.macs) == (first.parameters, first.macs)]
    best = max(alike, key=lambda row: row.accuracy.mean)
    text = f"{best.title} is best with {spread(best.accuracy)}".replace(" %", "\N{NO-BREAK SPACE}%")
    if best.difference is None:
        return f"{text}."
    return f"{text}: {difference(best.difference)} points over {best.reference}."
