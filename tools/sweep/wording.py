"""How the table and the page of a sweep say things, so that both say the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tools.report.formats import MISSING, percent
from tools.sweep.ledger import Ledger
from tools.sweep.report import Row, SweepReport
from tools.sweep.statistics import Difference, Summary
from tools.sweep.statistics import difference as compare

_NAMED = 3


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


def finished_otherwise(ledger: Ledger) -> str:
    """One sentence where runs have finished with other settings than they now have, else nothing."""
    found = [
        changes
        for entry in ledger.entries.values()
        if not (entry.result or entry.begun) and (changes := entry.folder.changes(entry.config))
    ]
    if not found:
        return ""
    common = [
        (key, *values) for key, values in found[0].items() if all(values == one.get(key) for one in found)
    ]
    named = [f"{key} {before}, now {now}" for key, before, now in common[:_NAMED]]
    which = f" ({'; '.join(named)})" if named else ""
    runs = "1 run has" if len(found) == 1 else f"{len(found)} runs have"
    return f"{runs} finished with other settings{which}: give the same --set to keep what they found"


def headline(report: SweepReport) -> str:
    """One sentence: the arm with the best mean, how it compares with the first, and what that does not show.

    Arms whose networks have another size than the first one's, as teachers have, are not in the running.
    """
    if not report.shown:
        return "No final run has finished yet."
    first = report.shown[0]
    alike = [row for row in report.shown if (row.parameters, row.macs) == (first.parameters, first.macs)]
    best = max(alike, key=lambda row: row.accuracy.mean)
    others = [row for row in alike if row is not best]
    equal = [row.title for row in others if not _differ(best, row)]
    verb = "has the best mean," if equal else "is best with" if others else "reaches"
    text = f"{best.title} {verb} {spread(best.accuracy)}".replace(" %", "\N{NO-BREAK SPACE}%")
    if others and len(alike) < len(report.shown):
        text = f"Among networks of the same size, {text}"
    if best.difference is not None:
        text = f"{text}: {difference(best.difference)} points over {best.reference}"
    if equal:
        text = f"{text}; no difference to {_listed(equal)} is shown"
    return f"{text}."


def _differ(one: Row, other: Row) -> bool:
    """Whether the 95 % interval of the difference leaves out 0."""
    interval = compare(one.accuracies, other.accuracies).interval
    return interval is not None and not interval[0] <= 0 <= interval[1]


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
