"""What a run's folder says: whether it is finished, and with which result."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from common import files
from common.errors import ConfigError
from tools.config import RunConfig, load_config, resolve, to_toml
from tools.runs import RunFolder, StageRecord
from tools.sweep.file import dotted
from trainer.result import TrainResult

LOG = "train.log"
_NEEDS = "needs.json"
_TRAINED_BY = {"data", "model", "train"}

Digests = Mapping[str, str]
Changes = Mapping[str, tuple[Any, Any]]
"""Dotted keys with the value before and now."""


class TrainingFolder:
    """The folder of one run of a sweep."""

    def __init__(self, path: Path) -> None:
        self.run = RunFolder(path)
        self.log = path / LOG
        self.history = self.run.training / "log.csv"
        self.weights = self.run.training / "model.safetensors"
        self._needs = path / _NEEDS

    def result(self, config: RunConfig, needs: Digests) -> TrainResult | None:
        """The result of a finished training of this very configuration, which used the weights `needs`.

        The manifest decides: what it recorded of the configuration, and the digests of the files.
        """
        record = self._record()
        if record is None or self._recorded_needs() != needs:
            return None
        try:
            unchanged = _alike(_configuration(record), config) and all(
                files.sha256(self.run.named(name)) == digest
                for name, digest in (record.outputs | record.inputs).items()
            )
        except (ConfigError, OSError):
            return None
        return self.last_result() if unchanged else None

    def last_result(self) -> TrainResult | None:
        """The result of the training that ended well last."""
        record = self._record()
        try:
            return TrainResult.model_validate(record.result) if record else None
        except ValidationError:
            return None

    def changes(self, config: RunConfig) -> Changes:
        """Keys with another value in the training that ended well here than in `config`; none without one."""
        record = self._record()
        if record is None or not self.weights.exists():
            return {}
        try:
            before = _settings(_configuration(record))
        except ConfigError:
            return {}
        now = _settings(config)
        keys = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
        return {key: (before.get(key), now.get(key)) for key in keys}

    def prepare(self, config: RunConfig, needs: Digests) -> None:
        """Write the configuration; a training that was begun with another one is removed."""
        if not self.can_go_on(config, needs):
            shutil.rmtree(self.run.training, ignore_errors=True)
            self.log.unlink(missing_ok=True)
        if needs:
            files.write_json(self._needs, dict(needs))
        else:
            self._needs.unlink(missing_ok=True)
        files.write_text(self.run.config, to_toml(config))

    def can_go_on(self, config: RunConfig, needs: Digests) -> bool:
        """Whether what lies in the folder was begun with this very configuration."""
        try:
            return _alike(load_config(self.run.config), config) and self._recorded_needs() == needs
        except ConfigError:
            return False

    def last_line(self) -> str:
        """The last line that the training wrote, which says why it failed."""
        try:
            lines = self.log.read_text(errors="replace").split("\n")
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def _record(self) -> StageRecord | None:
        return self.run.manifest().stages.get("train")

    def _recorded_needs(self) -> Digests:
        try:
            found = json.loads(self._needs.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _configuration(record: StageRecord) -> RunConfig:
    return resolve({name: record.config.get(name, {}) for name in _TRAINED_BY}, "manifest")


def _settings(config: RunConfig) -> dict[str, Any]:
    settings: dict[str, Any] = dotted(config.model_dump(include=_TRAINED_BY, mode="json"))
    return settings


def _alike(first: RunConfig, second: RunConfig) -> bool:
    return all(getattr(first, name) == getattr(second, name) for name in _TRAINED_BY)
