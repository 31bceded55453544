"""The files that say what a sweep found: sweep.json, sweep.csv, sweep.html."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common import files
from common.errors import ConfigError
from tools.sweep.report import Row, SweepReport, Training, Trial
from tools.sweep.statistics import Summary

_RESULT_COLUMNS = ("accuracy", "train_accuracy", "epochs", "seconds", "parameters", "macs")


def write_report(report: SweepReport, folder: Path) -> dict[str, Any]:
    """Write the three files into the sweep's folder, and give back what the JSON holds."""
    from tools.sweep.page import render_sweep

    found = as_json(report)
    files.write_json(folder / "sweep.json", {"schema": 1, **found})
    files.write_text(folder / "sweep.csv", _as_csv(report))
    files.write_text(folder / "sweep.html", render_sweep(report))
    return found


def write_figure(report: SweepReport, path: Path) -> None:
    """Write the curves as an SVG file of their own.

    Raises ConfigError where no run has finished.
    """
    from tools.sweep.figures import curves_file

    if not report.shown:
        raise ConfigError(f"{path}: there are no curves yet, for no run has finished")
    files.write_text(path, curves_file(report.shown))


def as_json(report: SweepReport) -> dict[str, Any]:
    """The report as JSON values."""
    return {
        "sweep": report.name,
        "runs": len(report.trainings),
        "finished": sum(training.state == "finished" for training in report.trainings),
        "arms": [_row(row) for row in report.rows],
        "tuning": [_trial(trial) for trial in report.trials],
        "failed": [_failure(training) for training in report.failed],
        "warnings": list(report.warnings),
        "git_revision": report.revision,
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "arm": row.arm,
        "point": row.point.values,
        "chosen": row.chosen.values if row.chosen else None,
        "n": row.accuracy.n,
        "planned": row.planned,
        "seeds": row.seeds,
        "accuracy": {**_summary(row.accuracy), "values": row.accuracies},
        "train_accuracy": _summary(row.train_accuracy),
        "reference": row.reference,
        "difference": asdict(row.difference) if row.difference else None,
        "epochs": row.epochs,
        "metric": row.metric,
        "seconds": row.seconds,
        "parameters": row.parameters,
        "macs": row.macs,
        "best_point": row.best,
        "curves": {"test": asdict(row.test_curve), "train": asdict(row.train_curve)},
    }


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "arm": trial.arm,
        "point": trial.point.values,
        "tried": trial.tried.values,
        "n": trial.accuracy.n if trial.accuracy else 0,
        "accuracy": _summary(trial.accuracy) if trial.accuracy else None,
        "chosen": trial.chosen,
    }


def _failure(training: Training) -> dict[str, Any]:
    return {"run": training.name, "state": training.state, "message": training.message}


def _summary(summary: Summary) -> dict[str, float | None]:
    return {"mean": summary.mean, "sd": summary.sd}


def _as_csv(report: SweepReport) -> str:
    """A line for each run: where it is kept, what it was varied by, what came out."""
    keys = list(dict.fromkeys(key for training in report.trainings for key in training.values))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "stage", "arm", *keys, "seed", "state", *_RESULT_COLUMNS, "message"])
    for training in report.trainings:
        result = training.result.model_dump() if training.result else {}
        writer.writerow(
            [
                training.name,
                training.stage,
                training.arm,
                *(training.values.get(key, "") for key in keys),
                training.seed,
                training.state,
                *(result.get(column, "") for column in _RESULT_COLUMNS),
                training.message,
            ]
        )
    return text.getvalue()
