"""The configuration of a run: TOML, validated; an unknown key is an error that names the nearest known."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tomli_w
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from common.errors import ConfigError
from converter.board import board_names
from tools.imports import SUFFIX
from trainer.config import DataConfig, ModelConfig, TrainConfig

TargetName = Literal["host", "virtual", "renode", "board"]


def _located(name: str, folder: Path = Path()) -> str:
    """A module's name, or the absolute path of a file that is named from `folder`."""
    return str((folder / name).resolve()) if name.endswith(SUFFIX) else name


Import = Annotated[str, Field(min_length=1), AfterValidator(_located)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class QuantizeConfig(_Section):
    """Post-training quantization: how many training images calibrate the activations."""

    calibration_samples: int = Field(default=256, ge=1)


class BoardConfig(_Section):
    """Which board the model must fit, and smaller budgets in bytes where part of it is taken."""

    name: str = "stm32f746g_disco"
    ram_bytes: int | None = Field(default=None, gt=0)
    flash_bytes: int | None = Field(default=None, gt=0)


class TestConfig(_Section):
    """What the board tests run and what they demand."""

    target: TargetName = "virtual"
    samples: int = Field(default=1000, ge=1)
    max_accuracy_drop: float = Field(default=0.02, ge=0, le=1)
    max_latency_ms: float | None = Field(default=None, gt=0)


class RunConfig(_Section):
    """All that a run can be told.

    `imports` are modules, by name or as .py files, that register what the sections name.
    """

    imports: tuple[Import, ...] = ()
    data: DataConfig = Field(default_factory=DataConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    quantize: QuantizeConfig = Field(default_factory=QuantizeConfig)
    board: BoardConfig = Field(default_factory=BoardConfig)
    test: TestConfig = Field(default_factory=TestConfig)


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a TOML file (or the defaults), apply `section.key=value` overrides and validate.

    Raises:
        ConfigError: no such file, not TOML, an unknown or ill-typed key, a malformed override.
    """
    values: dict[str, Any] = {}
    origin = "the defaults"
    if path is not None:
        origin = str(path)
        values = read_values(path)
    for override in overrides:
        apply_override(values, override)
    if overrides:
        origin = f"{origin} with --set"
    return resolve(values, origin)


def read_values(path: Path) -> dict[str, Any]:
    """The values of a configuration file; the files that it imports are found from its folder.

    Raises:
        ConfigError: no such file, or not TOML.
    """
    values = read_toml(path, "configuration")
    imports = values.get("imports")
    if isinstance(imports, list) and all(isinstance(name, str) for name in imports):
        values["imports"] = [_located(name, path.parent) for name in imports]
    return values


def read_toml(path: Path, kind: str) -> dict[str, Any]:
    """The values of a TOML file, a `kind` of file in messages.

    Raises:
        ConfigError: no such file, or not TOML.
    """
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such {kind} file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def resolve(values: dict[str, Any], origin: str) -> RunConfig:
    """Validate the values of a configuration, which came from `origin`.

    Raises:
        ConfigError: an unknown or ill-typed key, or an unknown board.
    """
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{origin}: {explain(error, RunConfig)}") from None
    if config.board.name not in board_names():
        raise ConfigError(
            f"{origin}: board.name: unknown board '{config.board.name}'; known: {', '.join(board_names())}"
        )
    return config


def to_toml(config: RunConfig) -> str:
    """The resolved configuration; keys without a value are left out, for TOML has no null."""
    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set one `section.key=value` in the values of a configuration; the value is TOML, or else a string.

    Raises:
        ConfigError: the override is malformed.
    """
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"--set {override}: write it as section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    assign(values, key.strip(), value, f"--set {override}")


def assign(values: dict[str, Any], key: str, value: Any, origin: str) -> None:
    """Set a dotted key, which came from `origin`, in the values of a configuration.

    Raises:
        ConfigError: the key goes through one that is no section.
    """
    *sections, last = key.split(".")
    table = values
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{origin}: '{section}' is not a section")
    table[last] = value


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first error of a validation against `model`, in one line."""
    first = error.errors()[0]
    location = tuple(part for part in first["loc"])
    key = ".".join(str(part) for part in location)
    if first["type"] == "value_error":  # raised by a validator, which says it all
        return f"{key}: {first['ctx']['error']}"
    if first["type"] != "extra_forbidden":
        return f"{key}: {first['msg']} (got {first['input']!r})"
    known = _known_keys(location[:-1], model)
    nearest = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.4)
    hint = f"did you mean '{nearest[0]}'?" if nearest else f"known keys: {', '.join(known)}"
    return f"unknown key '{key}'; {hint}"


def _known_keys(location: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    for part in location:
        if not isinstance(part, str) or part not in model.model_fields:
            continue
        found = _section_type(model.model_fields[part].annotation)
        if found is None:
            break
        model = found
    return list(model.model_fields)


def _section_type(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _section_type(part))), None)
