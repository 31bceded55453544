"""Which runs a sweep consists of, where they are kept, and what each waits for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any, Literal

from common.errors import ConfigError
from tools.config import RunConfig, apply_override, assign, read_values, resolve
from tools.sweep.file import RUN_REFERENCE, Arm, SweepFile, in_order, load_sweep

Values = dict[str, Any]
Stage = Literal["tune", "final"]

DEFAULT_POINT = "default"
_LONGEST_NAME = 80


@dataclass(frozen=True)
class Point:
    """One combination of a grid's values; `name` is that of its folder."""

    name: str
    values: Values

    def __hash__(self) -> int:
        return hash(self.name)


@dataclass(frozen=True)
class Run:
    """One training. `tried` is its point of the tune grid, None in the final stage."""

    arm: str
    point: Point
    tried: Point | None
    seed: int
    folder: Path

    @property
    def stage(self) -> Stage:
        """Which stage it belongs to."""
        return "final" if self.tried is None else "tune"

    @property
    def group(self) -> Group:
        """Arm and point, which a choice is made for."""
        return self.arm, self.point.name


Group = tuple[str, str]
Choices = Mapping[Group, Point]


class Plan:
    """All runs of a sweep, each after those that it waits for.

    `expected` has the configuration of each run, as if the first values of tune grids were the best: so a
    mistake shows before hours of training.

    The runs of an arm lie in <folder>/<arm>/<point>/seed<n>, those that tune it in .../<point>/tune/.
    """

    def __init__(self, source: Path, folder: Path, overrides: Iterable[str] = ()) -> None:
        """Read the sweep's file `source`; `overrides` (`section.key=value`) win over all that it says.

        Raises:
            ConfigError: the file is wrong, or a run's configuration would be.
        """
        self.source = source
        self.folder = folder
        self.file = load_sweep(source)
        self._base = read_values(self.file.base)
        self._overrides = tuple(overrides)
        arms = in_order(self.file)
        self._points = {arm.name: _points(self.file.grid_of(arm), f"arm '{arm.name}'") for arm in arms}
        self._tried = {
            arm.name: _points(self.file.tuned_grid_of(arm), f"arm '{arm.name}', tune")
            for arm in _in_first_stage(self.file, arms)
        }
        tune = [run for arm in arms for run in self._tune_runs(arm)]
        final = [run for arm in arms for run in self._final_runs(arm)]
        self.runs = (*tune, *final)
        self.expected = self._expect()

    def tune_runs(self, group: Group) -> list[Run]:
        """The runs that decide what `group` is trained with; none where nothing is tuned."""
        if not self.is_tuned(group[0]):
            return []
        return [run for run in self.runs if run.stage == "tune" and run.group == group]

    def is_tuned(self, arm: str) -> bool:
        """Whether a value is chosen for this arm."""
        return bool(self.file.tuned_grid_of(self.file.arm(arm)))

    def tried_points(self, arm: str) -> list[Point]:
        """The points of an arm's tune grid."""
        return self._tried.get(arm, [])

    def waits_for(self, run: Run) -> list[Run]:
        """The runs that must have ended before this one."""
        found = self.tune_runs(run.group) if run.stage == "final" else []
        for arm in self.file.arm(run.arm).needs:
            group, seed = self._counterpart(run, arm)
            same = [
                other
                for other in self.runs
                if other.stage == run.stage
                and other.group == group
                and (other.seed == seed or (run.stage == "tune" and self.is_tuned(arm)))
            ]
            found.extend(same)
        return found

    def needed_run(self, run: Run, arm: str, choices: Choices) -> Run:
        """The run of `arm` that `{run:ARM}` means."""
        group, seed = self._counterpart(run, arm)
        for other in self.runs:
            if other.stage == run.stage and other.group == group and other.seed == seed:
                chosen = choices.get(group)
                if run.stage == "final" or chosen is None or other.tried == chosen:
                    return other
        raise ConfigError(f"{run.folder}: no run of arm '{arm}' with seed {seed}")

    def config(self, run: Run, choices: Choices) -> RunConfig:
        """The configuration of a run.

        Raises:
            ConfigError: a key is unknown, or a value wrong.
        """
        arm = self.file.arm(run.arm)
        values = deepcopy(self._base)
        layers: list[Values] = [arm.set, run.point.values]
        if run.tried is not None:
            layers += [self.file.tune.set if self.file.tune else {}, run.tried.values]
        elif self.is_tuned(run.arm):
            layers.append(choices[run.group].values)
        origin = f"{self.source}: arm '{run.arm}'"
        for layer in layers:
            for key, value in layer.items():
                assign(values, key, self._filled(value, run, choices), origin)
        assign(values, "train.seed", run.seed, origin)
        for override in self._overrides:
            apply_override(values, override)
        return resolve(values, origin)

    def name(self, run: Run) -> str:
        """A run's folder within the sweep's."""
        return run.folder.relative_to(self.folder).as_posix()

    def _tune_runs(self, arm: Arm) -> list[Run]:
        if self.file.tune is None or arm.name not in self._tried:
            return []
        return [
            Run(arm.name, point, tried, seed, self._place(arm, point) / "tune" / tried.name / f"seed{seed}")
            for point in self._points[arm.name]
            for tried in self._tried[arm.name]
            for seed in self.file.tune.seeds
        ]

    def _final_runs(self, arm: Arm) -> list[Run]:
        return [
            Run(arm.name, point, None, seed, self._place(arm, point) / f"seed{seed}")
            for point in self._points[arm.name]
            for seed in self.file.seeds_of(arm)
        ]

    def _place(self, arm: Arm, point: Point) -> Path:
        return self.folder / arm.name / point.name

    def _counterpart(self, run: Run, arm: str) -> tuple[Group, int]:
        """Point and seed of the needed arm that go with a run: the same, or the only ones."""
        points = self._points[arm]
        alike = [point for point in points if _agree(point.values, run.point.values)]
        fitting = alike if len(points) > 1 else points
        if len(fitting) != 1:
            raise ConfigError(
                f"arm '{run.arm}' needs '{arm}', which has {len(points)} points, and "
                f"{len(fitting)} of them go with {run.point.name}: give '{arm}' one value of each key"
            )
        tune = self.file.tune
        seeds = self.file.seeds_of(self.file.arm(arm)) if run.stage == "final" or tune is None else tune.seeds
        if run.seed in seeds:
            return (arm, fitting[0].name), run.seed
        if len(seeds) > 1:
            raise ConfigError(
                f"arm '{run.arm}' with seed {run.seed} needs '{arm}', which has other seeds: give it one, "
                "or the same"
            )
        return (arm, fitting[0].name), seeds[0]

    def _filled(self, value: Any, run: Run, choices: Choices) -> Any:
        """A value in which each {run:ARM} is replaced."""
        if isinstance(value, str):
            return RUN_REFERENCE.sub(
                lambda match: str(self.needed_run(run, match[1], choices).folder.absolute()), value
            )
        if isinstance(value, list):
            return [self._filled(part, run, choices) for part in value]
        if isinstance(value, dict):
            return {key: self._filled(part, run, choices) for key, part in value.items()}
        return value

    def _expect(self) -> dict[Run, RunConfig]:
        choices = {
            run.group: self._tried[run.arm][0]
            for run in self.runs
            if run.stage == "final" and self.is_tuned(run.arm)
        }
        for run in self.runs:
            self.waits_for(run)
        return {run: self.config(run, choices) for run in self.runs}


def point_name(values: Mapping[str, Any]) -> str:
    """A name for a combination of values that can be a folder's."""
    if not values:
        return DEFAULT_POINT
    shorts = [key.rpartition(".")[2] for key in values]
    keys = shorts if len(set(shorts)) == len(shorts) else list(values)
    text = ",".join(f"{key}={_text(value)}" for key, value in zip(keys, values.values(), strict=True))
    safe = re.sub(r"[^A-Za-z0-9_.,=+\[\]-]", "_", text)
    if safe == text and len(text) <= _LONGEST_NAME:
        return text
    return f"{safe[:_LONGEST_NAME]}-{sha256(text.encode()).hexdigest()[:6]}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), default=str)


def _points(grid: Mapping[str, list[Any]], owner: str) -> list[Point]:
    combinations = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    points = [Point(point_name(values), values) for values in combinations]
    if len({point.name for point in points}) < len(points):
        raise ConfigError(f"{owner}: the grid has a value twice")
    return points


def _agree(first: Values, second: Values) -> bool:
    return all(first[key] == second[key] for key in first.keys() & second.keys())


def _in_first_stage(file: SweepFile, arms: list[Arm]) -> list[Arm]:
    """The arms that are tuned, and those that they need."""
    names = {arm.name for arm in arms if file.tuned_grid_of(arm)}
    for arm in reversed(arms):
        if arm.name in names:
            names.update(arm.needs)
    return [arm for arm in arms if arm.name in names]
