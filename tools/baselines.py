"""Counts to compare with, by a model's SHA-256: what others need, and what was accepted of our own.

They stand in `benchmarks/baselines`: `tinyboost.toml` is ours, every other file is another runtime's.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common import files
from common.errors import ConfigError
from tools.runs import REPOSITORY

if TYPE_CHECKING:
    from tools.bench import BenchLayer, BenchResult

BASELINES = REPOSITORY / "benchmarks" / "baselines"
_OWN = "tinyboost.toml"
_TOLERANCE = 0.01
_CULPRITS_NAMED = 3

T = TypeVar("T", bound=BaseModel)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OtherModel(_Section):
    """What a runtime needs for one model: instructions of an inference; bytes.

    ram, flash: of a whole image; code: of an image without the model; arena: the smallest that works.
    """

    name: str
    sha256: str
    instructions: int = Field(gt=0)
    ram: int = Field(gt=0)
    flash: int = Field(gt=0)
    code: int = Field(gt=0)
    arena: int = Field(gt=0)


class OtherRuntime(_Section):
    """A runtime; how: versions, flags and how it was counted, one statement each."""

    title: str
    how: tuple[str, ...]
    models: tuple[OtherModel, ...]

    def find(self, sha256: str) -> OtherModel | None:
        """The model with this SHA-256."""
        return next((model for model in self.models if model.sha256 == sha256), None)


class AcceptedModel(_Section):
    """Our instructions of an inference of one model, and of each of its layers."""

    name: str
    sha256: str
    compiler: str
    inputs: int
    instructions: int = Field(gt=0)
    layers: tuple[int, ...]


class Accepted(_Section):
    """All of our accepted counts."""

    models: tuple[AcceptedModel, ...] = ()

    def find(self, sha256: str) -> AcceptedModel | None:
        """The model with this SHA-256."""
        return next((model for model in self.models if model.sha256 == sha256), None)

    def save(self, folder: Path = BASELINES) -> None:
        """Write `tinyboost.toml`."""
        values = self.model_dump(mode="json")
        files.write_text(folder / _OWN, tomli_w.dumps(values, indent=2))


def other_runtimes(folder: Path = BASELINES) -> tuple[OtherRuntime, ...]:
    """All other runtimes' counts.

    Raises:
        ConfigError: a file is damaged.
    """
    return tuple(_load(path, OtherRuntime) for path in sorted(folder.glob("*.toml")) if path.name != _OWN)


def accepted(folder: Path = BASELINES) -> Accepted:
    """Our accepted counts; none where there is no such file.

    Raises:
        ConfigError: the file is damaged.
    """
    path = folder / _OWN
    return _load(path, Accepted) if path.exists() else Accepted()


def accept(results: Sequence[BenchResult], before: Accepted) -> Accepted:
    """Accepted counts with those of `results` in place of what was accepted of the same models before."""
    new = {
        result.model_sha256: AcceptedModel(
            name=result.model,
            sha256=result.model_sha256,
            compiler=result.compiler,
            inputs=result.bit_exact.inputs,
            instructions=result.instructions,
            layers=tuple(layer.instructions or 0 for layer in result.layers),
        )
        for result in results
        if result.instructions is not None
    }
    kept = [model for model in before.models if model.sha256 not in new]
    return Accepted(models=tuple(sorted([*kept, *new.values()], key=lambda model: model.name)))


def regression(result: BenchResult, baseline: AcceptedModel) -> str | None:
    """Say by how much the instructions rose, and where; None where it is not more than 1 %."""
    assert result.instructions is not None
    limit = baseline.instructions * (1 + _TOLERANCE)
    if result.instructions <= limit:
        return None
    rises = sorted(
        ((layer.instructions or 0) - before, index, layer, before)
        for index, (layer, before) in enumerate(zip(result.layers, baseline.layers, strict=True))
    )
    culprits = [_rise(*rise[1:]) for rise in reversed(rises[-_CULPRITS_NAMED:]) if rise[0] > 0]
    whole = _change(baseline.instructions, result.instructions)
    return f"{result.model}: {whole}; {'; '.join(culprits) or 'no layer rose'}"


def _rise(index: int, layer: BenchLayer, before: int) -> str:
    return f"layer {index} ({layer.op} '{layer.name}') {_change(before, layer.instructions or 0)}"


def _change(before: int, now: int) -> str:
    relative = f"{now / before - 1:+.1%}" if before else "new"
    return f"{before:,} -> {now:,} instructions ({relative})"


def _load(path: Path, kind: type[T]) -> T:
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text())
        return kind.model_validate(values)
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {place}: {first['msg']}") from None
