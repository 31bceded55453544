"""The table and report.json say the same, under the names that others rely on."""

from __future__ import annotations

import io
import json
import math

import pytest
from rich.console import Console
from sample_report import make_report

from tools.report import print_table
from tools.report.content import Accuracy, Flash, Precision, Precisions, Ram, Report, Score, Timing
from tools.report.formats import count, kilobytes, millions, milliseconds, percent, printable, ratio, seconds
from tools.report.machine import ReportJson, machine_report, to_json
from tools.report.verdict import checks, headline, passed

RELIED_ON = {
    "schema", "accuracy", "samples", "mismatches", "target", "engine", "instructions", "cycles_estimate",
    "latency_ms", "ram", "flash", "model_sha256", "git_revision", "stages",
}  # fmt: skip
NO_SCORE = Score(None, 0)


def table(report: Report, width: int = 80, **options: object) -> str:
    stream = io.StringIO()
    print_table(report, Console(file=stream, width=width, **options))  # type: ignore[arg-type]
    return stream.getvalue()


def as_json(report: Report) -> dict:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(to_json(machine_report(report)), parse_constant=refuse)


def test_json_has_the_keys_that_are_relied_on():
    values = as_json(make_report())
    assert set(values) >= RELIED_ON
    assert values["schema"] == 1
    assert values["accuracy"] == {"float": 0.869, "int8": 0.864, "board": 0.864}
    assert set(values["ram"]) == {"total", "budget", "arena", "data_bss", "stack", "by_region"}
    assert values["ram"]["total"] == 52_992
    assert values["ram"]["by_region"]["sram1"] == {"used": 50_176, "size": 245_760}
    assert values["flash"] == {"total": 100_006, "budget": 1_048_576, "weights": 78_666, "code": 21_340}
    assert values["latency_ms"] is None
    assert values["layers"][1] == {
        "name": "block_1/conv_2d",
        "op": "CONV_2D",
        "macs": 2_359_296,
        "instructions": values["layers"][1]["count"],
        "count": int(2_359_296 * 1.3) + 4000,
        "arena": 32_768,
        "weights": 2_621,
    }


def test_json_is_validated_by_its_own_schema():
    text = to_json(machine_report(make_report()))
    assert to_json(ReportJson.model_validate_json(text)) == text


def test_table_says_what_json_says():
    report = make_report()
    values, text = as_json(report), table(report)
    accuracy, ram, flash = values["accuracy"], values["ram"], values["flash"]
    for name, figure in [
        ("float top-1", percent(accuracy["float"], 2)),
        ("int8 top-1", percent(accuracy["int8"], 2)),
        ("board top-1", percent(accuracy["board"], 2)),
        ("host and board differ", count(values["mismatches"])),
        ("instructions", count(values["instructions"])),
        ("latency", milliseconds(values["cycles_estimate"] / values["clock_hz"] * 1e3)),
        ("arena", count(ram["arena"])),
        (".data and .bss", count(ram["data_bss"])),
        ("stack", count(ram["stack"])),
        ("RAM", count(ram["total"])),
        ("flash", count(flash["total"])),
    ]:
        assert cells(text, name)[1] == figure, name
    assert "327,680" in cells(text, "RAM")[2]
    assert cells(text, "latency")[2] == "estimate at 216 MHz"


def cells(text: str, name: str) -> list[str]:
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    return next(row for row in rows if row[0] == name)


@pytest.mark.parametrize("width", [80, 200])
def test_table_fits_80_columns_and_has_no_colour_when_piped(width):
    report = make_report(
        name="a-run-with-quite-a-long-name",
        warnings=("a warning that is rather longer than eighty columns, " * 3,),
    )
    text = table(report, width=width)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "\x1b" not in text


def test_table_has_colour_on_a_terminal():
    assert "\x1b" in table(make_report(), force_terminal=True, color_system="standard")


def test_names_are_no_markup():
    report = make_report(name="[red]run[/red]", warnings=("[bold]careful[/bold]",))
    text = table(report)
    assert "[red]run[/red]" in text
    assert "[bold]careful[/bold]" in text


@pytest.mark.parametrize("correct", [0, 1])
def test_accuracies_at_the_ends(correct):
    scores = Score(correct * 7, 7)
    report = make_report(accuracy=Accuracy(scores, scores, scores), samples=7)
    assert as_json(report)["accuracy"] == {"float": correct, "int8": correct, "board": correct}
    assert cells(table(report), "board top-1")[1] == f"{correct * 100:.2f} %"
    low, high = scores.interval or (math.nan, math.nan)
    assert 0 <= low <= correct <= high <= 1


def test_a_detector_has_average_precisions_in_place_of_accuracies():
    float_model, int8 = Precision(0.67, 0.27, 0.65), Precision(0.63, 0.25, 0.62)
    unlabelled = Accuracy(NO_SCORE, NO_SCORE, NO_SCORE)
    report = make_report(accuracy=unlabelled, precisions=Precisions(float_model, int8, int8))
    assert as_json(report)["precisions"]["float"] == {"ap50": 0.67, "mean_ap": 0.27, "voc_ap50": 0.65}
    assert as_json(report)["precisions"]["board"] == {"ap50": 0.63, "mean_ap": 0.25, "voc_ap50": 0.62}
    assert cells(table(report), "board AP50")[1:] == ["63.00 %", "virtual board, mAP 25.00 %"]
    assert "top-1" not in table(report)
    assert headline(report) == "63.0 % AP50 on the virtual board, in 51.8 KB of RAM."
    other = make_report(accuracy=unlabelled, precisions=Precisions(float_model, int8, None))
    assert as_json(other)["precisions"]["board"] is None
    assert cells(table(other), "board AP50")[1] == "–"


def test_no_labels_give_null_and_a_dash():
    report = make_report(accuracy=Accuracy(NO_SCORE, NO_SCORE, NO_SCORE))
    assert as_json(report)["accuracy"] == {"float": None, "int8": None, "board": None}
    assert cells(table(report), "board top-1")[1] == "–"
    assert headline(report) == "The virtual board answers as the reference does, in 51.8 KB of RAM."


@pytest.mark.parametrize("name", ["latency_ms", "cycles_estimate"])
def test_json_refuses_what_is_no_number(name):
    values = machine_report(make_report()).model_dump(by_alias=True)
    with pytest.raises(ValueError, match=name):
        ReportJson.model_validate(values | {name: math.nan})


def test_silicon_measures_latency_and_counts_cycles():
    report = make_report(target="board", timing=Timing(216_000_000, "cycles", 2_160_000, None, 10.0))
    values = as_json(report)
    assert (values["latency_ms"], values["instructions"], values["unit"]) == (10.0, None, "cycles")
    assert values["layers"][0]["instructions"] is None
    assert cells(table(report), "latency")[1:] == ["10.0 ms", "measured at 216 MHz"]


def test_checks_fail_with_reasons():
    assert passed(make_report())
    wrong = make_report(
        mismatches=1,
        ram=Ram(327_680, 400_000, 0, 0),
        flash=Flash(1_048_576, 2_000_000, 0),
    )
    assert [check.passed for check in checks(wrong)] == [False, False, False]
    assert not passed(wrong)
    assert as_json(wrong)["passed"] is False
    assert headline(wrong) == "The virtual board and tflite-micro disagree on 1 of 1,000 samples."


def test_a_full_memory_still_fits():
    assert passed(make_report(ram=Ram(327_680, 327_680, 0, 0), flash=Flash(1_048_576, 1_048_576, 0)))


def test_differing_bytes_with_equal_predictions_are_said():
    (agreement, *_) = checks(make_report(output_mismatches=3))
    assert agreement.passed
    assert "outputs differ in 3" in agreement.text


def test_wilson_interval_matches_published_values():
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3: 81/263 and 0/20.
    low, high = Score(81, 263).interval or (0.0, 0.0)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    low, high = Score(0, 20).interval or (1.0, 1.0)
    assert (round(low, 4), round(high, 4)) == (0.0, 0.1611)


def test_formats():
    assert percent(0.92345) == "92.3 %"
    assert percent(None) == percent(math.nan) == count(None) == kilobytes(None) == ratio(None) == "–"
    assert [millions(value) for value in (7, 4_500, 7_643_000, 2_000_000_000)] == [
        "7",
        "4.50 k",
        "7.64 M",
        "2.00 G",
    ]
    assert [milliseconds(value) for value in (0.5, 35.38, 1234.5)] == ["0.50 ms", "35.4 ms", "1,234 ms"]
    assert [seconds(value) for value in (3.44, 74, 3660)] == ["3.4 s", "1 min 14 s", "1 h 01 min"]
    assert kilobytes(327_680) == "320.0 KB"
    assert printable("a\x1b[31mb\n") == "a\N{REPLACEMENT CHARACTER}[31mb\N{REPLACEMENT CHARACTER}"
