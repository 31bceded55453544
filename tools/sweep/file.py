"""The file that describes a sweep: a base configuration, arms, a grid, seeds, and what is tuned first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from common.errors import ConfigError
from tools.config import explain, read_toml


def dotted(settings: Any, prefix: str = "") -> Any:
    """Settings with dotted keys, however their tables are nested."""
    if not isinstance(settings, Mapping):
        return settings
    found: dict[str, Any] = {}
    for key, value in settings.items():
        nested = isinstance(value, Mapping)
        for name, setting in (dotted(value, f"{prefix}{key}.") if nested else {prefix + key: value}).items():
            if name in found:
                raise ValueError(f"'{name}' is set twice")
            found[name] = setting
    return found


Settings = Annotated[dict[str, Any], BeforeValidator(dotted)]
Grid = Annotated[dict[str, Annotated[list[Any], Field(min_length=1)]], BeforeValidator(dotted)]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]


def _names_a_folder(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,59}", name):
        raise ValueError(
            f"'{name}' cannot name a folder: give up to 60 letters, digits, and _ . + - behind the first"
        )
    return name


Name = Annotated[str, AfterValidator(_names_a_folder)]

RUN_REFERENCE = re.compile(r"\{run:([^{}]*)\}")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Tune(_Section):
    """The first stage: every combination of `grid` is trained with `seeds`, and the best mean is kept.

    `set` holds in this stage only, and wins over what arms set: there belongs `data.validation`, which makes
    the choice on held-out training images.
    """

    grid: Grid
    seeds: Seeds = (0,)
    set: Settings = Field(default_factory=dict)


class Arm(_Section):
    """One of the things that are compared.

    What an arm sets takes the place of the same key of the sweep's grids; its own `grid` and `tune` replace
    the same key of `[grid]` and `[tune]`. `needs` names arms that are trained before: `{run:NAME}` in a value
    becomes the folder of that arm's run. `reference` names the arm that it is compared with, by default the
    first one.
    """

    name: Name
    needs: tuple[str, ...] = ()
    set: Settings = Field(default_factory=dict)
    grid: Grid = Field(default_factory=dict)
    tune: Grid = Field(default_factory=dict)
    seeds: Seeds | None = None
    reference: str | None = None


class SweepFile(_Section):
    """All that a sweep can be told."""

    base: Path
    seeds: Seeds = (0,)
    grid: Grid = Field(default_factory=dict)
    tune: Tune | None = None
    arms: Annotated[tuple[Arm, ...], Field(min_length=1)]

    def arm(self, name: str) -> Arm:
        """The arm of this name."""
        return next(arm for arm in self.arms if arm.name == name)

    def reference_of(self, arm: Arm) -> str:
        """The arm that another is compared with."""
        return arm.reference or self.arms[0].name

    def seeds_of(self, arm: Arm) -> tuple[int, ...]:
        """Seeds of an arm's final runs."""
        return arm.seeds or self.seeds

    def grid_of(self, arm: Arm) -> Grid:
        """What an arm's final runs are varied by."""
        return _varied(self.grid, arm.grid, arm.set)

    def tuned_grid_of(self, arm: Arm) -> Grid:
        """What an arm's runs of the first stage are varied by."""
        return {} if self.tune is None else _varied(self.tune.grid, arm.tune, arm.set)


def load_sweep(path: Path) -> SweepFile:
    """Read and check a sweep's file; `base` becomes a path from the working directory.

    Raises:
        ConfigError: no such file, not TOML, an unknown or ill-typed key, arms that do not go together.
    """
    try:
        sweep = SweepFile.model_validate(read_toml(path, "sweep"))
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(error, SweepFile)}") from None
    try:
        _check_arms(sweep)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return sweep.model_copy(update={"base": path.parent / sweep.base})


def in_order(sweep: SweepFile) -> list[Arm]:
    """The arms, each after those that it needs, otherwise in the order of the file.

    Raises:
        ConfigError: arms need each other in a circle.
    """
    ordered: dict[str, Arm] = {}

    def visit(arm: Arm, path: tuple[str, ...]) -> None:
        if arm.name in path:
            circle = " needs ".join([*path[path.index(arm.name) :], arm.name])
            raise ConfigError(f"arms need each other in a circle: {circle}")
        if arm.name not in ordered:
            for name in arm.needs:
                visit(sweep.arm(name), (*path, arm.name))
            ordered[arm.name] = arm

    for arm in sweep.arms:
        visit(arm, ())
    return list(ordered.values())


def references(value: Any) -> set[str]:
    """Names of the arms whose run folders a value refers to."""
    if isinstance(value, str):
        return set(RUN_REFERENCE.findall(value))
    parts: Iterable[Any] = ()
    if isinstance(value, Mapping):
        parts = value.values()
    elif isinstance(value, list | tuple):
        parts = value
    return {name for part in parts for name in references(part)}


def _varied(common: Grid, own: Grid, fixed: Settings) -> Grid:
    return {key: values for key, values in (common | own).items() if key not in fixed}


def _check_arms(sweep: SweepFile) -> None:
    names = [arm.name for arm in sweep.arms]
    common = sweep.grid | (sweep.tune.grid | sweep.tune.set if sweep.tune else {})
    for arm in sweep.arms:
        if names.count(arm.name) > 1:
            raise ConfigError(f"two arms are named '{arm.name}'")
        for named in (*arm.needs, sweep.reference_of(arm)):
            if named not in names:
                raise ConfigError(f"arm '{arm.name}' names the arm '{named}'; there are: {', '.join(names)}")
        for named in sorted(references([arm.set, arm.grid, arm.tune]) - set(arm.needs)):
            raise ConfigError(f"arm '{arm.name}' refers to {{run:{named}}}; name it in needs = [\"{named}\"]")
        for key in sorted(arm.set.keys() & (arm.grid.keys() | arm.tune.keys())):
            raise ConfigError(f"arm '{arm.name}' gives {key} both one value and several")
        if arm.tune and sweep.tune is None:
            raise ConfigError(f"arm '{arm.name}' has a tune grid, but the file has no [tune]")
        for key in sorted(sweep.grid_of(arm).keys() & sweep.tuned_grid_of(arm).keys()):
            raise ConfigError(f"arm '{arm.name}' has {key} in its grid and tunes it as well; leave one out")
        _check_seeds(f"arm '{arm.name}'", sweep.seeds_of(arm))
        if "train.seed" in common | arm.set | arm.grid | arm.tune:
            raise ConfigError("train.seed comes from seeds; leave it out of set, grid and tune")
    if sweep.tune is not None:
        _check_seeds("[tune]", sweep.tune.seeds)
    if unknown := references(common):
        raise ConfigError(f"{{run:{min(unknown)}}} stands outside of an arm; only an arm can need another")
    in_order(sweep)


def _check_seeds(owner: str, seeds: tuple[int, ...]) -> None:
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"{owner} names a seed twice")
