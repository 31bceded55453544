"""The profile as one HTML page that needs nothing else: no network, no scripts."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tools.profile.collect import Line, Profile
from tools.profile.flame import ROW, WIDTH, flame_graph
from tools.profile.mix import KINDS
from tools.report import formats
from tools.report.page import TEMPLATES as REPORT_TEMPLATES

TEMPLATES = Path(__file__).parent / "templates"
_FUNCTIONS_LISTED = 24
_LINES_LISTED = 30


def render_profile(profile: Profile, model: str, image: str, sources: Path) -> str:
    """The page as HTML text; every name in it is escaped.

    Args:
        profile: what to show.
        model: its name.
        image: what describes the image: engine, board, revision, compiler.
        sources: folder with source files, from which lines are quoted.
    """
    environment = Environment(
        loader=FileSystemLoader([TEMPLATES, REPORT_TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=formats.count, millions=formats.millions, percent=formats.percent, ratio=formats.ratio
    )
    mix = profile.mix
    return environment.get_template("profile.html.j2").render(
        profile=profile,
        model=formats.printable(model),
        image=formats.printable(image),
        macs=sum(use.layer.macs for use in profile.layers),
        cycles=sum(use.cycles.total for use in profile.layers),
        causes=_causes(profile),
        flame=flame_graph(profile),
        row=ROW,
        width=WIDTH,
        mix=mix,
        kinds=[kind for kind in KINDS if mix[kind]],
        functions=list(profile.functions.items())[:_FUNCTIONS_LISTED],
        lines=[(line, _quote(sources, line)) for line in profile.lines[:_LINES_LISTED]],
    )


def _causes(profile: Profile) -> dict[str, int]:
    """Estimated cycles of all layers by what they are spent on."""
    causes: Counter[str] = Counter()
    for use in profile.layers:
        causes.update(asdict(use.cycles))
    return causes


def _quote(sources: Path, line: Line) -> str:
    try:
        text = (sources / line.file).read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return text[line.line - 1].strip() if line.line <= len(text) else ""
