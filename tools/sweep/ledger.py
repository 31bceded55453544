"""Where every run of a sweep stands, and what was chosen from the runs that tune."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from common import files
from common.errors import ConfigError
from tools.config import RunConfig
from tools.sweep.file import Grid
from tools.sweep.folder import TrainingFolder
from tools.sweep.history import History, read_history
from tools.sweep.plan import Group, Plan, Point, Run
from tools.sweep.statistics import summarise
from trainer.result import TrainResult

State = Literal["waiting", "ready", "running", "finished", "failed", "blocked"]
_ENDED: frozenset[State] = frozenset({"finished", "failed", "blocked"})


@dataclass
class Entry:
    """Where one run stands.

    `config` is what is expected until the run can start, for a value may have to be chosen before. `needs`
    are digests of the weights that it uses, by arm. `begun` says that its folder holds epochs of this very
    configuration.
    """

    run: Run
    name: str
    folder: TrainingFolder
    config: RunConfig
    state: State = "waiting"
    needs: dict[str, str] = field(default_factory=dict)
    begun: bool = False
    result: TrainResult | None = None
    message: str = ""
    _read: History | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state in _ENDED

    @property
    def history(self) -> History:
        """The epochs so far."""
        if self._read is not None:
            return self._read
        found = read_history(self.folder.history) if self.begun else History()
        if self.ended:
            self._read = found
        return found


@dataclass(frozen=True)
class Choice:
    """The point of the tune grid with the best mean accuracy.

    `edges` names the keys whose best value is the outermost of the grid. `held_out` says that the accuracies
    are of held-out training images, not of the test images.
    """

    point: Point
    accuracy: float
    edges: tuple[str, ...]
    held_out: bool


class Ledger:
    """All runs of a plan, and the choices made so far."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.entries = {
            run: Entry(run, plan.name(run), TrainingFolder(run.folder), config)
            for run, config in plan.expected.items()
        }
        self.choices: dict[Group, Choice] = {}
        self._overheads: list[float] = []
        self.refresh()

    def refresh(self) -> None:
        """Find the runs that can start, have ended before, or never will start."""
        for entry in self.entries.values():
            if entry.state == "waiting" and all(self.entries[run].ended for run in self._waits_for(entry)):
                self._release(entry)

    def of(self, *states: State) -> list[Entry]:
        """Entries in one of these states, in the order of the plan."""
        return [entry for entry in self.entries.values() if entry.state in states]

    def chosen(self) -> dict[Group, Point]:
        """The chosen points."""
        return {group: choice.point for group, choice in self.choices.items()}

    def finish(self, entry: Entry, overhead: float, failure: str | None = None) -> None:
        """Record how a training has ended: by its folder, or with a failure.

        `overhead` is how many seconds its process took beside the epochs.
        """
        self._overheads.append(overhead)
        entry.result = None if failure else entry.folder.last_result()
        entry.state = "finished" if entry.result else "failed"
        entry.message = "" if entry.result else failure or "ended without a result"

    def seconds_left(self, jobs: int) -> float | None:
        """Estimated seconds until all runs have ended, `jobs` at once; None while nothing is known."""
        overhead = summarise(self._overheads).mean if self._overheads else 0.0
        return seconds_left(self.entries.values(), jobs, overhead)

    def _waits_for(self, entry: Entry) -> list[Run]:
        return self.plan.waits_for(entry.run)

    def _release(self, entry: Entry) -> None:
        """Decide about an entry that waits for nothing more."""
        run, plan = entry.run, self.plan
        if run.stage == "final" and plan.is_tuned(run.arm) and not self._choose(run.group):
            self._block(entry, "no value of its tune grid could be trained")
            return
        for arm in plan.file.arm(run.arm).needs:
            try:
                needed = self.entries[self._needed(run, arm)]
            except ConfigError:
                needed = None
            if needed is None or needed.state != "finished":
                self._block(entry, f"needs {needed.name if needed else arm}, which did not finish")
                return
            entry.needs[arm] = files.sha256(needed.folder.weights)
        entry.config = plan.config(run, self.chosen())
        entry.result = entry.folder.result(entry.config, entry.needs)
        entry.begun = entry.folder.can_go_on(entry.config, entry.needs)
        entry.state = "finished" if entry.result else "ready"

    def _needed(self, run: Run, arm: str) -> Run:
        if run.stage == "tune" and self.plan.is_tuned(arm):
            group = self.plan.needed_run(run, arm, {}).group
            if not self._choose(group):
                raise ConfigError(f"nothing to choose for {arm}")
        return self.plan.needed_run(run, arm, self.chosen())

    def _block(self, entry: Entry, reason: str) -> None:
        entry.state, entry.message = "blocked", reason

    def _choose(self, group: Group) -> bool:
        """Choose a point for `group` from its runs that tune; False where none has finished."""
        if group in self.choices:
            return True
        entries = [self.entries[run] for run in self.plan.tune_runs(group)]
        means: dict[str, float] = {}
        for point in self.plan.tried_points(group[0]):
            results = [entry.result for entry in entries if entry.run.tried == point]
            if all(results):
                means[point.name] = summarise([result.accuracy for result in results if result]).mean
        if not means:
            return False
        points = {point.name: point for point in self.plan.tried_points(group[0])}
        best = max(means, key=lambda name: means[name])
        grid = self.plan.file.tuned_grid_of(self.plan.file.arm(group[0]))
        self.choices[group] = Choice(
            point=points[best],
            accuracy=means[best],
            edges=_edges(points[best], grid),
            held_out=all(entry.config.data.validation > 0 for entry in entries),
        )
        return True


def seconds_left(entries: Iterable[Entry], jobs: int, overhead: float = 0.0) -> float | None:
    """Estimated seconds until all runs have ended, None while nothing is known.

    Each arm's seconds of an epoch are those it took so far; an arm that has not begun is taken for the mean.
    To a run that has not been started comes `overhead`.
    """
    starts = 0
    seconds: dict[str, float] = {}
    epochs: dict[str, int] = {}
    left: dict[str, int] = {}
    longest: dict[str, int] = {}
    for entry in entries:
        arm = entry.run.arm
        history = entry.history
        if history.done:
            seconds[arm] = seconds.get(arm, 0) + history.seconds[-1]
            epochs[arm] = epochs.get(arm, 0) + history.done
        if not entry.ended:
            starts += entry.state != "running"
            rest = entry.config.train.epochs - history.done
            left[arm] = left.get(arm, 0) + rest
            longest[arm] = max(longest.get(arm, 0), rest)
    if not epochs:
        return None
    mean = sum(seconds.values()) / sum(epochs.values())
    rate = {arm: seconds[arm] / epochs[arm] if arm in epochs else mean for arm in left}
    work = math.fsum(rate[arm] * rest for arm, rest in left.items()) + overhead * starts
    return max([work / jobs, *(rate[arm] * rest for arm, rest in longest.items())])


def _edges(best: Point, grid: Grid) -> tuple[str, ...]:
    """Keys with several values, all numbers, of which the chosen one is the smallest or largest."""
    found = []
    for key, value in best.values.items():
        values = grid[key]
        numbers = all(isinstance(other, int | float) and not isinstance(other, bool) for other in values)
        if numbers and len(values) > 1 and value in (min(values), max(values)):
            found.append(key)
    return tuple(found)
