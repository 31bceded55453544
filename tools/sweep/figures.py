"""The plots of a sweep."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tools.report.page import TEMPLATES as REPORT_TEMPLATES
from tools.report.svg import KINDS, Paint, Tooltips, draw, draw_file, label_axes
from tools.sweep.report import Curve, Row

_DASHES = ("-", "--", ":")
_HEIGHT = 560
_TIME_UNITS = ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))


def curves(rows: Sequence[Row]) -> Markup:
    """Test and train accuracy over epochs and over time: means, with bands of one standard deviation."""
    return draw("curves", _describe(rows), _painter(rows), height=_HEIGHT, narrow_height=880 + 20 * len(rows))


def curves_file(rows: Sequence[Row]) -> str:
    """The same as an SVG file of its own."""
    # The page's style sheet starts with the colours, for light and for dark.
    palette = (REPORT_TEMPLATES / "style.css.j2").read_text().partition("* {")[0]
    return draw_file("curves", _describe(rows), _painter(rows), palette, height=_HEIGHT)


def _describe(rows: Sequence[Row]) -> str:
    return "Accuracy over epochs and time: " + ", ".join(row.title for row in rows)


def _painter(rows: Sequence[Row]) -> Paint:
    longest = max((row.test_curve.seconds[-1] for row in rows if row.test_curve.seconds), default=0.0)
    unit, unit_name = next((unit for unit in _TIME_UNITS if longest >= 2 * unit[0]), _TIME_UNITS[-1])

    def paint(figure: Figure, narrow: bool) -> Tooltips:
        panels = np.ravel(figure.subplots(*((4, 1) if narrow else (2, 2)), squeeze=False))
        for index, row in enumerate(rows):
            for axes, (x, curve) in zip(panels, _four(row, unit), strict=True):
                _line(axes, x, curve, index, row.title)
        titles = [(x, f"{split} accuracy") for split in ("test", "train") for x in ("epoch", unit_name)]
        for axes, (x_title, y_title) in zip(panels, titles, strict=True):
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=x_title == "epoch"))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:g} %"))
            axes.margins(x=0.02)
            label_axes(axes, x=x_title, y=y_title)
        # One line of each arm: the panels have the same.
        handles = panels[0].get_lines()
        columns = 1 if narrow else min(len(handles), 4)
        figure.legend(handles=handles, loc="outside upper right", ncols=columns, handlelength=1.8)
        return {}

    return paint


def _four(row: Row, unit: float) -> list[tuple[Sequence[float], Curve]]:
    """Test over epochs and time, train over epochs and time."""
    return [
        (x, curve)
        for curve in (row.test_curve, row.train_curve)
        for x in (curve.epochs, [seconds / unit for seconds in curve.seconds])
    ]


def _line(axes: Axes, x: Sequence[float], curve: Curve, index: int, title: str) -> None:
    mean, sd = np.array(curve.mean), np.array(curve.sd)
    marker = "o" if len(x) == 1 else None
    axes.plot(x, mean, color=_colour(index), linestyle=_dash(index), marker=marker, markersize=4, label=title)
    if sd.any():
        axes.fill_between(x, mean - sd, mean + sd, color=_colour(index), alpha=0.16, linewidth=0)


def _colour(index: int) -> str:
    return KINDS[index % len(KINDS)]


def _dash(index: int) -> str:
    """Solid for the first arms; those that come after all colours were used are dashed, then dotted."""
    return _DASHES[index // len(KINDS) % len(_DASHES)]
