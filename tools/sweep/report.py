"""What a sweep found, as one typed tree: table, page, JSON and CSV read it and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tools.runs import git_revision
from tools.sweep.history import History
from tools.sweep.ledger import Entry, Ledger, State
from tools.sweep.plan import Group, Point, Stage, Values
from tools.sweep.statistics import Difference, Summary, difference, summarise
from trainer.result import TrainResult


@dataclass(frozen=True)
class Curve:
    """Accuracy after each evaluated epoch: mean and standard deviation over seeds, mean cumulated seconds."""

    epochs: tuple[int, ...]
    seconds: tuple[float, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]


@dataclass(frozen=True)
class Row:
    """An arm at a point, over all seeds that finished; accuracies are those after the last epoch.

    `chosen` is what the first stage chose. `difference` is to the arm `reference`, None where that has no
    such point. `best` marks the arm's point with the best mean.
    """

    arm: str
    point: Point
    chosen: Point | None
    settings: Values
    seeds: tuple[int, ...]
    planned: int
    accuracies: tuple[float, ...]
    accuracy: Summary
    train_accuracy: Summary
    reference: str
    difference: Difference | None
    epochs: int
    seconds: float
    parameters: int
    macs: int
    test_curve: Curve
    train_curve: Curve
    metric: str
    best: bool

    @property
    def title(self) -> str:
        """Arm, and point where it has one."""
        return f"{self.arm}, {self.point.name}" if self.point.values else self.arm


@dataclass(frozen=True)
class Trial:
    """A point of a tune grid: accuracy over the seeds that finished, None where none did."""

    arm: str
    point: Point
    tried: Point
    accuracy: Summary | None
    chosen: bool


@dataclass(frozen=True)
class Training:
    """One run, as a line of the CSV."""

    name: str
    stage: Stage
    arm: str
    values: Values
    seed: int
    state: State
    message: str
    result: TrainResult | None


@dataclass(frozen=True)
class SweepReport:
    """All that a sweep found."""

    name: str
    rows: tuple[Row, ...]
    trials: tuple[Trial, ...]
    trainings: tuple[Training, ...]
    warnings: tuple[str, ...]
    revision: str

    @property
    def failed(self) -> tuple[Training, ...]:
        """Runs that failed, or wait for one that did."""
        return tuple(one for one in self.trainings if one.state in ("failed", "blocked"))

    @property
    def unfinished(self) -> int:
        """How many runs have not ended."""
        return sum(one.state in ("waiting", "ready", "running") for one in self.trainings)

    @property
    def references(self) -> tuple[str, ...]:
        """The arms that others are compared with."""
        return tuple(dict.fromkeys(row.reference for row in self.rows))

    @property
    def shown(self) -> tuple[Row, ...]:
        """One row for each arm: its best point."""
        return tuple(row for row in self.rows if row.best)


def build_report(ledger: Ledger) -> SweepReport:
    """Summarise the runs that have finished."""
    groups: dict[Group, list[Entry]] = {}
    for arm in ledger.plan.file.arms:
        for entry in ledger.entries.values():
            if entry.run.stage == "final" and entry.run.arm == arm.name:
                groups.setdefault(entry.run.group, []).append(entry)
    finished = {
        group: [entry for entry in entries if entry.result is not None] for group, entries in groups.items()
    }
    finished = {group: entries for group, entries in finished.items() if entries}
    best = _best_points(finished)
    rows = tuple(
        _row(ledger, entries, len(groups[group]), finished, group in best)
        for group, entries in finished.items()
    )
    return SweepReport(
        name=ledger.plan.folder.resolve().name,
        rows=rows,
        trials=_trials(ledger),
        trainings=tuple(_training(entry) for entry in ledger.entries.values()),
        warnings=tuple(_warnings(ledger)),
        revision=git_revision(),
    )


def _row(
    ledger: Ledger, entries: list[Entry], planned: int, finished: dict[Group, list[Entry]], best: bool
) -> Row:
    first, results = entries[0], _results(entries)
    run = first.run
    reference = ledger.plan.file.reference_of(ledger.plan.file.arm(run.arm))
    compared = _reference(finished, reference, entries)
    choice = ledger.choices.get(run.group)
    histories = [entry.history for entry in entries]
    accuracies = tuple(result.accuracy for result in results)
    return Row(
        arm=run.arm,
        point=run.point,
        chosen=choice.point if choice else None,
        settings=run.point.values | (choice.point.values if choice else {}),
        seeds=tuple(entry.run.seed for entry in entries),
        planned=planned,
        accuracies=accuracies,
        accuracy=summarise(accuracies),
        train_accuracy=summarise([result.train_accuracy for result in results]),
        reference=reference,
        difference=(
            difference(accuracies, [result.accuracy for result in _results(compared)]) if compared else None
        ),
        epochs=results[0].epochs,
        seconds=summarise([result.seconds for result in results]).mean,
        parameters=results[0].parameters,
        macs=results[0].macs,
        metric=results[0].metric,
        test_curve=_curve(histories, lambda history: history.test),
        train_curve=_curve(histories, lambda history: history.train),
        best=best,
    )


def _results(entries: list[Entry]) -> list[TrainResult]:
    return [entry.result for entry in entries if entry.result is not None]


def _best_points(finished: dict[Group, list[Entry]]) -> set[Group]:
    """For each arm the group with the best mean accuracy."""
    means = {
        group: summarise([result.accuracy for result in _results(entries)]).mean
        for group, entries in finished.items()
    }
    return {
        max((group for group in means if group[0] == arm), key=lambda group: means[group])
        for arm in {arm for arm, _ in means}
    }


def _reference(finished: dict[Group, list[Entry]], arm: str, entries: list[Entry]) -> list[Entry] | None:
    """What `entries` are compared with: the arm at the same point, or at its only one."""
    run = entries[0].run
    if run.arm == arm:
        return None
    same = finished.get((arm, run.point.name))
    own = [found for (name, _), found in finished.items() if name == arm]
    return same or (own[0] if len(own) == 1 else None)


def _curve(histories: Sequence[History], values: Callable[[History], tuple[float, ...]]) -> Curve:
    """Mean over trainings of the same length, at the epochs where all have a value."""
    length = min(history.done for history in histories)
    at = [index for index in range(length) if not any(math.isnan(values(one)[index]) for one in histories)]
    summaries = [summarise([values(history)[index] for history in histories]) for index in at]
    return Curve(
        epochs=tuple(histories[0].epochs[index] for index in at),
        seconds=tuple(summarise([history.seconds[index] for history in histories]).mean for index in at),
        mean=tuple(summary.mean for summary in summaries),
        sd=tuple(summary.sd or 0.0 for summary in summaries),
    )


def _trials(ledger: Ledger) -> tuple[Trial, ...]:
    groups = dict.fromkeys(run.group for run in ledger.plan.runs if run.stage == "final")
    found = []
    for group in groups:
        runs = ledger.plan.tune_runs(group)
        choice = ledger.choices.get(group)
        for tried in ledger.plan.tried_points(group[0]) if runs else ():
            results = _results([ledger.entries[run] for run in runs if run.tried == tried])
            summary = summarise([result.accuracy for result in results]) if results else None
            chosen = choice is not None and choice.point == tried
            found.append(Trial(group[0], runs[0].point, tried, summary, chosen))
    return tuple(found)


def _training(entry: Entry) -> Training:
    run = entry.run
    values = run.point.values | (run.tried.values if run.tried else {})
    return Training(
        entry.name, run.stage, run.arm, values, run.seed, entry.state, entry.message, entry.result
    )


def _warnings(ledger: Ledger) -> list[str]:
    at_edge: dict[str, list[str]] = {}
    for (arm, _), choice in ledger.choices.items():
        for key in choice.edges:
            at_edge.setdefault(key, []).append(f"{arm} ({choice.point.values[key]})")
    found = [
        f"the best {key} is the outermost of the grid for {', '.join(arms)}: widen the grid"
        for key, arms in at_edge.items()
    ]
    if any(not choice.held_out for choice in ledger.choices.values()):
        found.append(
            "values were chosen by the accuracy on the test images, which flatters: give [tune] "
            'set = { "data.validation" = N }'
        )
    parameters = {
        entry.result.parameters
        for entry in ledger.entries.values()
        if entry.result and entry.run.stage == "final"
    }
    if len(parameters) > 1:
        found.append("the arms have networks of different sizes")
    return found
