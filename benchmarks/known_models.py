"""The models that are benched."""

from __future__ import annotations

import os
from pathlib import Path

from common.errors import ConfigError
from tools.baselines import other_runtimes
from tools.runs import REPOSITORY

OWN_MODELS = REPOSITORY / "benchmarks" / "models"


def data_folder() -> Path:
    """Folder of models that are no part of the repository: $TINYBOOST_DATA, or ../shared/data."""
    return Path(os.environ.get("TINYBOOST_DATA", REPOSITORY.parent / "shared" / "data"))


def own_models() -> list[Path]:
    """Models of the repository."""
    return sorted(OWN_MODELS.glob("*.tflite"))


def public_models() -> list[Path]:
    """Models that figures of other runtimes are stored for.

    Raises:
        ConfigError: the data folder or one of the models is absent.
    """
    folder = data_folder() / "models"
    names = dict.fromkeys(model.name for runtime in other_runtimes() for model in runtime.models)
    found = [folder / f"{name}.tflite" for name in names]
    absent = [path.name for path in found if not path.is_file()]
    if absent:
        raise ConfigError(
            f"{folder}: {', '.join(absent)} not there; set TINYBOOST_DATA to the folder that holds "
            f"models/*.tflite, or name models on the command line"
        )
    return found
