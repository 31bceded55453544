"""What a run found, as a page, a table and JSON."""

from tools.report.content import Report
from tools.report.load import build_report
from tools.report.machine import ReportJson
from tools.report.table import print_table
from tools.report.write import write_report

__all__ = ["Report", "ReportJson", "build_report", "print_table", "write_report"]
