"""The report's files in the run folder."""

from __future__ import annotations

from pathlib import Path

from common import files
from tools.report.content import Report
from tools.report.machine import ReportJson, machine_report, to_json
from tools.runs import RunFolder


def write_report(report: Report, folder: Path) -> ReportJson:
    """Write `report.html` and `report.json` into a run folder, and give back what the JSON holds."""
    from tools.report.page import render

    run = RunFolder(folder)
    machine = machine_report(report)
    files.write_text(run.report_page, render(report))
    files.write_text(run.report_json, to_json(machine))
    return machine
