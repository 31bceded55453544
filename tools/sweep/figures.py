"""The plots of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from tools.report.page import TEMPLATES as REPORT_TEMPLATES
from tools.report.svg import KINDS, Paint, Tooltips, colour, draw, draw_file, label_axes
from tools.sweep.report import Curve, Row, Trial

_HEIGHT = 280
_COLOURS = (*KINDS[:4], colour("peak"), KINDS[4])
_DASHES: tuple[Literal["-", "--", ":"], ...] = ("-", "--", ":")
_TIME_UNITS = ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))
_SHOWN_FROM = 0.2


@dataclass(frozen=True)
class _Panel:
    """One plot: a line for each row."""

    x_title: str
    y_title: str
    lines: list[tuple[Sequence[float], Curve]]


def curves(rows: Sequence[Row]) -> Markup:
    """Test and train accuracy over epochs and over time: means, with bands of one standard deviation."""
    panels = _panels(rows)
    return draw(
        "curves",
        _describe(rows),
        _painter(rows, panels),
        height=_HEIGHT * len(panels) // 2,
        narrow_height=220 * len(panels) + 20 * len(rows),
    )


def curves_file(rows: Sequence[Row]) -> str:
    """The same as an SVG file of its own."""
    panels = _panels(rows)
    # The page's style sheet starts with the colours, for light and for dark.
    palette = (REPORT_TEMPLATES / "style.css.j2").read_text().partition("* {")[0]
    height = _HEIGHT * len(panels) // 2
    return draw_file("curves", _describe(rows), _painter(rows, panels), palette, height=height)


def tuning(trials: Sequence[Trial]) -> Markup | None:
    """Accuracy over the value that is tuned; None where that is not one number.

    A line for each arm; the chosen values are marked.
    """
    keys = {key for trial in trials for key in trial.tried.values}
    if len(keys) != 1:
        return None
    (key,) = keys
    found: dict[str, list[tuple[float, float, bool]]] = {}
    for trial in trials:
        value = trial.tried.values[key]
        if trial.point.values or isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if trial.accuracy is not None:
            found.setdefault(trial.arm, []).append((value, trial.accuracy.mean, trial.chosen))

    def paint(figure: Figure, narrow: bool) -> Tooltips:
        axes = figure.add_subplot()
        for index, (arm, points) in enumerate(found.items()):
            x, y, _ = zip(*sorted(points), strict=True)
            axes.plot(x, y, color=_colour(index), linestyle=_dash(index), marker=".", label=arm)
            for value, accuracy, chosen in points:
                if chosen:
                    axes.plot(value, accuracy, color=_colour(index), marker="o", markersize=9)
        values = sorted({value for points in found.values() for value, _, _ in points})
        if values[0] > 0:
            axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(values, [f"{value:g}" for value in values])
        _finish(axes, key, "accuracy")
        _legend(figure, axes, narrow)
        return {}

    if not any(any(chosen for *_, chosen in points) for points in found.values()):
        return None
    description = f"Accuracy over {key}: " + ", ".join(found)
    return draw("tuning", description, paint, height=250, narrow_height=240 + 20 * len(found))


def _describe(rows: Sequence[Row]) -> str:
    return "Accuracy over epochs and time: " + ", ".join(row.title for row in rows)


def _panels(rows: Sequence[Row]) -> list[_Panel]:
    """Test over epochs and time, and the same of train where trainings record it."""
    longest = max((row.test_curve.seconds[-1] for row in rows if row.test_curve.seconds), default=0.0)
    unit, unit_name = next((unit for unit in _TIME_UNITS if longest >= 2 * unit[0]), _TIME_UNITS[-1])
    found = []
    for split, drawn in (
        ("test", [row.test_curve for row in rows]),
        ("train", [row.train_curve for row in rows]),
    ):
        if any(curve.epochs for curve in drawn):
            title = f"{split} {rows[0].metric}"
            found.append(_Panel("epoch", title, [(curve.epochs, curve) for curve in drawn]))
            times = [([second / unit for second in curve.seconds], curve) for curve in drawn]
            found.append(_Panel(unit_name, title, [*times]))
    return found


def _painter(rows: Sequence[Row], panels: Sequence[_Panel]) -> Paint:
    def paint(figure: Figure, narrow: bool) -> Tooltips:
        shape = (len(panels), 1) if narrow else (len(panels) // 2, 2)
        for axes, panel in zip(np.ravel(figure.subplots(*shape, squeeze=False)), panels, strict=True):
            for index, (x, curve) in enumerate(panel.lines):
                _line(axes, x, curve, index, rows[index].title)
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=panel.x_title == "epoch"))
            axes.margins(x=0.02)
            _cut_start(axes, [curve for _, curve in panel.lines])
            _finish(axes, panel.x_title, panel.y_title)
        _legend(figure, figure.axes[0], narrow)
        return {}

    return paint


def _line(axes: Axes, x: Sequence[float], curve: Curve, index: int, title: str) -> None:
    mean, sd = np.array(curve.mean), np.array(curve.sd)
    marker = "o" if len(x) == 1 else None
    axes.plot(x, mean, color=_colour(index), linestyle=_dash(index), marker=marker, markersize=4, label=title)
    if sd.any():
        axes.fill_between(x, mean - sd, mean + sd, color=_colour(index), alpha=0.16, linewidth=0)


def _cut_start(axes: Axes, drawn: Sequence[Curve]) -> None:
    """Leave out below what the first epochs alone reach, so that the ends can be told apart."""
    later = [
        mean - sd
        for curve in drawn
        for epoch, mean, sd in zip(curve.epochs, curve.mean, curve.sd, strict=True)
        if epoch > _SHOWN_FROM * curve.epochs[-1]
    ]
    top = max(
        (mean + sd for curve in drawn for mean, sd in zip(curve.mean, curve.sd, strict=True)), default=1
    )
    if later and top > min(later):
        room = 0.06 * (top - min(later))
        axes.set_ylim(min(later) - room, min(1 + room / 4, top + room))


def _finish(axes: Axes, x: str, y: str) -> None:
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:g} %"))
    label_axes(axes, x=x, y=y)


def _legend(figure: Figure, axes: Axes, narrow: bool) -> None:
    lines = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_")]
    columns = 1 if narrow else min(len(lines), 4)
    figure.legend(handles=lines, loc="outside upper right", ncols=columns, handlelength=1.8)


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]


def _dash(index: int) -> Literal["-", "--", ":"]:
    """Solid for the first arms; those that come after all colours were used are dashed, then dotted."""
    return _DASHES[index // len(_COLOURS) % len(_DASHES)]
