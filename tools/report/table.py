"""The report as a table for the terminal, at most 80 columns wide."""

from __future__ import annotations

from dataclasses import dataclass

from rich.box import ROUNDED
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tools.report import verdict
from tools.report.content import TARGET_TITLES, Precision, Report
from tools.report.formats import MISSING, count, megahertz, milliseconds, percent

_WIDTH = 80
_FINE, _HEAD, _BAD = "", "bold", "bold red"


@dataclass(frozen=True)
class _Row:
    name: str
    value: str
    note: str
    style: str = _FINE


def print_table(report: Report, console: Console) -> None:
    """Print accuracies, instructions or latency, RAM and flash, then the checks in words."""
    title = Text(
        f"{report.name}: {report.model} on {report.board}, {TARGET_TITLES[report.target]}", style="bold"
    )
    table = Table(box=ROUNDED, show_header=False, width=min(_WIDTH, console.width))
    table.add_column(ratio=5, overflow="fold")
    table.add_column(ratio=3, justify="right", no_wrap=True)
    table.add_column(ratio=6, overflow="fold", style="dim")
    for rows in (_accuracy(report), _speed(report), _ram(report), _flash(report)):
        for row in rows:
            table.add_row(Text(row.name, style=row.style), Text(row.value, style=row.style), Text(row.note))
        table.add_section()
    console.print(title)
    console.print(table)
    for check in verdict.checks(report):
        _print_line(console, *(("✓", "green") if check.passed else ("✗", _BAD)), check.text)
    for warning in report.warnings:
        _print_line(console, "!", "yellow", warning)


def _print_line(console: Console, mark: str, style: str, text: str) -> None:
    line = Table.grid(padding=(0, 1))
    line.add_row(Text(mark, style=style), Text(text))
    console.print(line, width=min(_WIDTH, console.width))


def _accuracy(report: Report) -> list[_Row]:
    accuracy = report.accuracy
    where = f"{TARGET_TITLES[report.target]}, engine {report.engine}"
    differ = _BAD if report.mismatches else _FINE
    if report.precisions is None:
        scores = [
            _Row("float top-1", percent(accuracy.float_model.top1, 2), "PyTorch on the host"),
            _Row("int8 top-1", percent(accuracy.int8_host.top1, 2), "tflite-micro on the host"),
            _Row("board top-1", percent(accuracy.board.top1, 2), where, _HEAD),
        ]
    else:
        scores = [
            _precision("float AP50", report.precisions.float_model, "PyTorch"),
            _precision("int8 AP50", report.precisions.int8_host, "tflite-micro"),
            _precision("board AP50", report.precisions.board, TARGET_TITLES[report.target], _HEAD),
        ]
    return [
        *scores,
        _Row(
            "host and board differ",
            count(report.mismatches),
            f"of {count(report.samples)} predictions",
            differ,
        ),
    ]


def _precision(name: str, precision: Precision | None, where: str, style: str = _FINE) -> _Row:
    if precision is None:
        return _Row(name, MISSING, where, style)
    return _Row(name, percent(precision.ap50, 2), f"{where}, mAP {percent(precision.mean_ap, 2)}", style)


def _speed(report: Report) -> list[_Row]:
    timing, clock = report.timing, megahertz(report.timing.clock_hz)
    instructions = _Row("instructions", count(timing.instructions), "per inference")
    if timing.latency_ms is not None:
        return [instructions, _Row("latency", milliseconds(timing.latency_ms), f"measured at {clock}", _HEAD)]
    note = f"estimate at {clock}" if timing.estimated_ms is not None else "measured on silicon only"
    return [instructions, _Row("latency", milliseconds(timing.estimated_ms), note)]


def _ram(report: Report) -> list[_Row]:
    ram = report.ram
    regions = [
        _Row(f"  linked in {region.name}", count(region.used), f"of {count(region.size)}")
        for region in ram.regions
    ]
    return [
        _Row("arena", count(ram.arena), "bytes"),
        _Row(".data and .bss", count(ram.data_bss), "bytes"),
        _Row(
            "stack",
            count(ram.stack),
            "bytes, high-water as measured" if ram.stack_measured else "bytes, reserved",
        ),
        _budget_row("RAM", ram.total, ram.budget),
        *regions,
    ]


def _flash(report: Report) -> list[_Row]:
    return [_budget_row("flash", report.flash.total, report.flash.budget)]


def _budget_row(name: str, used: int, budget: int) -> _Row:
    style = _HEAD if used <= budget else _BAD
    return _Row(name, count(used), f"of {count(budget)} bytes, {percent(used / budget)}", style)
