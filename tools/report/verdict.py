"""What a run proves, in words: one headline and the checks behind it."""

from __future__ import annotations

from dataclasses import dataclass

from tools.report.content import TARGET_TITLES, Report
from tools.report.formats import count, kilobytes, percent


@dataclass(frozen=True)
class Check:
    """A question that the run answers, with its answer in words."""

    passed: bool
    text: str


def checks(report: Report) -> tuple[Check, ...]:
    """The answers that decide whether the run is good."""
    return (_agreement(report), *_budget(report))


def passed(report: Report) -> bool:
    """Whether every check passed."""
    return all(check.passed for check in checks(report))


def headline(report: Report) -> str:
    """The run in one sentence: the first failure, else what was reached."""
    failures = [check.text for check in checks(report) if not check.passed]
    if failures:
        return f"{failures[0]}."
    where, ram = TARGET_TITLES[report.target], kilobytes(report.ram.total)
    if report.precisions is not None and report.precisions.board is not None:
        return f"{percent(report.precisions.board.ap50)} AP50 on the {where}, in {ram} of RAM."
    top1 = report.accuracy.board.top1
    if top1 is None:
        return f"The {where} answers as the reference does, in {ram} of RAM."
    return f"{percent(top1)} top-1 on the {where}, in {ram} of RAM."


def _agreement(report: Report) -> Check:
    where, samples = TARGET_TITLES[report.target], count(report.samples)
    if report.mismatches:
        differing = count(report.mismatches)
        return Check(False, f"The {where} and tflite-micro disagree on {differing} of {samples} samples")
    if report.output_mismatches:
        same = f"The {where} predicts what tflite-micro does on all {samples} samples"
        return Check(True, f"{same}; outputs differ in {count(report.output_mismatches)}")
    exact = "bit for bit" if report.output_mismatches == 0 else "by predicted class"
    return Check(True, f"The {where} answers as tflite-micro does on all {samples} samples, {exact}")


def _budget(report: Report) -> tuple[Check, Check]:
    return (
        _fits("RAM", report.ram.total, report.ram.budget),
        _fits("Flash", report.flash.total, report.flash.budget),
    )


def _fits(what: str, used: int, budget: int) -> Check:
    if used <= budget:
        return Check(
            True, f"{what} fits: {kilobytes(used)} of {kilobytes(budget)}, {kilobytes(budget - used)} free"
        )
    return Check(False, f"{what} is over budget: {kilobytes(used)} of {kilobytes(budget)}")
