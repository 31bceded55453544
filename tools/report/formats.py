"""Numbers as the page and the table write them, so that both write the same."""

from __future__ import annotations

import math

MISSING = "–"


def percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction of 1 as a percentage."""
    if fraction is None or math.isnan(fraction):
        return MISSING
    return f"{fraction * 100:.{digits}f} %"


def count(value: float | None) -> str:
    """A whole number with separators."""
    if value is None or math.isnan(value):
        return MISSING
    return f"{value:,.0f}"


def kilobytes(value: int | None) -> str:
    """Bytes in KB of 1024 bytes."""
    return MISSING if value is None else f"{value / 1024:,.1f} KB"


def millions(value: int | None) -> str:
    """A count in the unit that leaves three or four digits."""
    if value is None:
        return MISSING
    for unit, name in ((1_000_000_000, " G"), (1_000_000, " M"), (1000, " k")):
        if value >= unit:
            return f"{value / unit:.2f}{name}"
    return str(value)


def milliseconds(value: float | None) -> str:
    """Milliseconds with three significant digits below 100."""
    if value is None or math.isnan(value):
        return MISSING
    if value >= 100:
        return f"{value:,.0f} ms"
    return f"{value:.1f} ms" if value >= 10 else f"{value:.2f} ms"


def seconds(value: float) -> str:
    """A duration as a person says it."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def megahertz(hertz: int) -> str:
    """A clock in MHz."""
    return f"{hertz / 1e6:g} MHz"


def ratio(value: float | None) -> str:
    """A small ratio with two decimals."""
    return MISSING if value is None or math.isnan(value) else f"{value:.2f}"


def printable(text: str) -> str:
    """Text from a file, with what is no printable character replaced: it goes to terminals and pages."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
