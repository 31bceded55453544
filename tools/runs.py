"""The run folder: where every stage reads and writes files, and the manifest that says how each was made."""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from common import files
from common.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parent.parent
_RECORDED_PACKAGES = (
    "tinyboost",
    "torch",
    "onnx",
    "onnx2tf",
    "tensorflow",
    "tflite-micro",
    "numpy",
    "unicorn",
)


class StageRecord(BaseModel):
    """How a stage was run last: SHA-256 of what it read and wrote, and what it found."""

    key: str
    command: str
    finished: datetime
    seconds: float
    config: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str]
    inputs: dict[str, str]
    outputs: dict[str, str]
    result: dict[str, Any] = Field(default_factory=dict)


class Manifest(BaseModel):
    """`manifest.json` of a run folder."""

    schema_version: int = Field(default=1, alias="schema")
    stages: dict[str, StageRecord] = Field(default_factory=dict)


class RunFolder:
    """Paths of a run's artefacts and the record of its stages."""

    def __init__(self, path: Path, config_text: str | None = None) -> None:
        """`config_text`, the resolved configuration as TOML, is saved when a stage starts."""
        self.path = path
        self._config_text = config_text
        self.name = path.resolve().name
        self.config = path / "config.toml"
        self.manifest_file = path / "manifest.json"
        self.training = path / "train"
        self.onnx = path / "model.onnx"
        self.tflite = path / "model.tflite"
        self.evaluation = path / "evaluation.npz"
        self.plan = path / "plan.json"
        self.generated = path / "generated"
        self.board_results = path / "board.json"
        self.junit = path / "junit.xml"
        self.report_page = path / "report.html"
        self.report_json = path / "report.json"

    def build(self, preset: str) -> Path:
        """CMake's binary directory of a preset."""
        return self.path / "build" / preset

    def need(self, path: Path, maker: str) -> Path:
        """Give `path` back if it exists.

        Raises:
            ConfigError: it does not; the message names the command that makes it.
        """
        if not path.exists():
            raise ConfigError(f"{path}: not there yet; make it with: tinyboost {maker} -o {self.path}")
        return path

    def manifest(self) -> Manifest:
        """Read the manifest; an empty one where there is none.

        Raises:
            ConfigError: the file is damaged.
        """
        if not self.manifest_file.exists():
            return Manifest()
        try:
            return Manifest.model_validate_json(self.manifest_file.read_bytes())
        except ValidationError as error:
            raise ConfigError(
                f"{self.manifest_file}: damaged ({error.errors()[0]['msg']}); delete it"
            ) from None

    def stage(
        self,
        name: str,
        work: Callable[[], dict[str, Any] | None],
        *,
        config: dict[str, Any],
        inputs: Iterable[Path] = (),
        outputs: Iterable[Path] = (),
        force: bool = False,
    ) -> tuple[StageRecord, bool]:
        """Run `work` unless its configuration, inputs and outputs are as its last run left them.

        Returns:
            The stage's record, and whether it ran now. `work` returns what the record keeps as `result`.

        Raises:
            ConfigError: an input is absent or cannot be read, or the manifest is damaged.
        """
        manifest = self.manifest()
        try:
            read = {self._relative(path): _digest(path) for path in inputs}
        except OSError as error:
            raise ConfigError(f"{error.filename}: cannot be read: {error.strerror}") from None
        key = sha256(json.dumps([config, read], sort_keys=True, default=str).encode()).hexdigest()
        last = manifest.stages.get(name)
        if last and not force and last.key == key and self._unchanged(last.outputs):
            return last, False
        started = time.monotonic()
        with self._configured():
            result = work() or {}
        record = StageRecord(
            key=key,
            command=shlex.join(["tinyboost", *sys.argv[1:]]),
            finished=datetime.now(UTC),
            seconds=round(time.monotonic() - started, 3),
            config=json.loads(json.dumps(config, default=str)),
            versions=versions(),
            inputs=read,
            outputs={self._relative(path): _digest(path) for path in outputs},
            result=result,
        )
        manifest = self.manifest()
        manifest.stages[name] = record
        files.write_text(self.manifest_file, manifest.model_dump_json(indent=2, by_alias=True) + "\n")
        return record, True

    @contextmanager
    def _configured(self) -> Iterator[None]:
        """Save the configuration, so that a stage can go on; one that is refused gives way to the earlier."""
        before = self.config.read_bytes() if self.config.exists() else None
        if self._config_text is not None:
            files.write_text(self.config, self._config_text)
        try:
            yield
        except ConfigError:
            if before is not None:
                files.write_bytes(self.config, before)
            raise

    def _relative(self, path: Path) -> str:
        try:
            return path.relative_to(self.path).as_posix()
        except ValueError:
            return str(path)

    def named(self, name: str) -> Path:
        """The file that the manifest calls `name`: its own or, like another run's weights, elsewhere."""
        own = self.path / name
        return own if own.exists() else Path(name)

    def _unchanged(self, outputs: dict[str, str]) -> bool:
        return all(
            (self.path / name).exists() and _digest(self.path / name) == digest
            for name, digest in outputs.items()
        )


def unrecorded(work: Callable[[], dict[str, Any]]) -> StageRecord:
    """Run a stage's part that another process keeps the record of."""
    started = time.monotonic()
    result = work()
    return StageRecord(
        key="",
        command="",
        finished=datetime.now(UTC),
        seconds=round(time.monotonic() - started, 3),
        versions={},
        inputs={},
        outputs={},
        result=result,
    )


def source_digest(*folders: str) -> str:
    """SHA-256 over the sources in folders of the repository: a stage made by other code is made again."""
    digest = sha256()
    for folder in folders:
        for path in sorted((REPOSITORY / folder).rglob("*")):
            if path.suffix in {".py", ".j2", ".h", ".cc", ".toml", ".ld"}:
                digest.update(path.relative_to(REPOSITORY).as_posix().encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def versions() -> dict[str, str]:
    """Versions of what makes a run: packages, Python, and the repository's revision."""
    found = {name: metadata.version(name) for name in _RECORDED_PACKAGES}
    return {"git": git_revision(), "python": platform.python_version(), **found}


@cache
def git_revision() -> str:
    """Revision of the repository, with "-dirty" where it has uncommitted changes; "unknown" without git."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()


def _digest(path: Path) -> str:
    if path.is_dir():
        names = sorted(file for file in path.rglob("*") if file.is_file())
        lines = "\n".join(f"{file.relative_to(path).as_posix()} {files.sha256(file)}" for file in names)
        return sha256(lines.encode()).hexdigest()
    return files.sha256(path)
