"""Matplotlib figures as inline SVG that follows the page: its colours, its font, its width.

Figures are painted in placeholder colours, one for each CSS variable of the page, and the placeholders
become `var(--name)` in the SVG: so one figure serves light, dark and print.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

WIDE, NARROW = 880, 358
_VARIABLES = (
    "paper",
    "ink",
    "muted",
    "line",
    "peak",
    "kind-1",
    "kind-2",
    "kind-3",
    "kind-4",
    "kind-5",
    "kind-6",
    "well",
)
_PLACEHOLDERS = {name: f"#0000{index + 1:02x}" for index, name in enumerate(_VARIABLES)}

Tooltips = Mapping[str, str]
Paint = Callable[[Figure, bool], Tooltips]


def colour(name: str) -> str:
    """The colour to paint with so that it becomes the page's CSS variable `--name`."""
    return _PLACEHOLDERS[name]


KINDS = tuple(colour(f"kind-{number}") for number in range(1, 7))

_STYLE: dict[RcKeyType, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tinyboost",
    "text.parse_math": False,
    "font.size": 10.5,
    "axes.edgecolor": colour("line"),
    "axes.labelcolor": colour("muted"),
    "axes.labelsize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": colour("line"),
    "grid.linewidth": 0.7,
    "xtick.color": colour("line"),
    "ytick.color": colour("line"),
    "xtick.labelcolor": colour("muted"),
    "ytick.labelcolor": colour("muted"),
    "text.color": colour("ink"),
    "legend.frameon": False,
    "legend.labelcolor": colour("ink"),
    "legend.fontsize": 10.5,
    "lines.linewidth": 1.8,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


def draw(
    name: str,
    description: str,
    paint: Paint,
    *,
    height: int,
    narrow_height: int | None = None,
    width: int = WIDE,
) -> Markup:
    """Draw a figure twice, for wide and for narrow screens; CSS shows one of them.

    Args:
        name: prefix of the SVG's ids, unique on the page.
        description: what a screen reader says.
        paint: draws into a figure (second argument: whether it is the narrow one) and gives a tooltip
            for each artist's gid.
        height: height in CSS pixels on a wide screen.
        narrow_height: the same on a phone.
        width: width in CSS pixels on a wide screen.
    """
    wide = _draw(f"{name}-wide", description, paint, (width, height), narrow=False)
    narrow = _draw(f"{name}-narrow", description, paint, (NARROW, narrow_height or height), narrow=True)
    return Markup(f'<div class="wide">{wide}</div><div class="narrow">{narrow}</div>')


def draw_file(
    name: str, description: str, paint: Paint, palette: str, *, height: int, width: int = WIDE
) -> str:
    """Draw the wide figure as an SVG file of its own, in light or dark as its reader wants.

    `palette` is CSS that gives the page's variables their colours; the rest is as for `draw`.
    """
    inline = _draw(name, description, paint, (width, height), narrow=False)
    style = f"<style>{palette}svg {{ background: var(--paper); font-family: var(--sans); }}</style>"
    start = inline.index(">") + 1
    tag = inline[:start].replace("<svg", f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}"', 1)
    return f"{tag}{style}{inline[start:]}\n"


def label_axes(axes: Axes, *, x: str = "", y: str = "") -> None:
    """Name the axes: x below on the right, y above on the left, where they cost no room."""
    axes.set_xlabel(x, loc="right")
    axes.set_title(y, loc="left", fontsize=10.5, color=colour("muted"))
    axes.tick_params(length=0)


def _draw(prefix: str, description: str, paint: Paint, size: tuple[int, int], *, narrow: bool) -> str:
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(size[0] / 72, size[1] / 72), layout="constrained")
        FigureCanvasSVG(figure)
        tooltips = paint(figure, narrow)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return _inline(buffer.getvalue(), prefix, description, size, tooltips)


def _inline(text: str, prefix: str, description: str, size: tuple[int, int], tooltips: Tooltips) -> str:
    """Make a part of the page from an SVG file: no prologue, no style of its own, ids that are unique."""
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"\s*<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    body = re.sub(r'<g id="([^"]*)">', lambda match: "<g>" + _title(tooltips.get(match[1])), body)
    body = re.sub(
        r'( id="| (?:xlink:)?href="#|url\(#)',
        lambda match: match[1].replace("xlink:", "") + prefix + "-",
        body,
    )
    body = body.replace("xlink:href=", "href=")
    for name, placeholder in _PLACEHOLDERS.items():
        body = body.replace(placeholder, f"var(--{name})")
    width, height = size
    return (
        f'<svg viewBox="0 0 {width} {height}" style="max-width:{width}px" role="img" '
        f'aria-label="{escape(description)}">{body.strip()}'
    )


def _title(tooltip: str | None) -> str:
    return f"<title>{escape(tooltip)}</title>" if tooltip is not None else ""
