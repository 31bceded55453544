"""The sweep as one HTML page that needs nothing else: no network, no scripts."""

from __future__ import annotations

from pathlib import Path

from tools.report.page import environment
from tools.sweep import figures, wording
from tools.sweep.report import SweepReport

TEMPLATES = Path(__file__).parent / "templates"


def render_sweep(report: SweepReport) -> str:
    """The page as HTML text; every name in it is escaped."""
    template = environment(TEMPLATES).get_template("sweep.html.j2")
    return template.render(
        report=report,
        wording=wording,
        curves=figures.curves(report.shown) if report.shown else None,
        tuning=figures.tuning(report.trials),
    )
