"""What the suite reads from a run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import ConfigError
from converter.board import Board, load_board
from converter.graph import Graph
from tools import stages
from tools.config import RunConfig, load_config
from tools.runs import RunFolder


@dataclass(frozen=True)
class Model:
    """The model under test, and N samples with the right answers.

    inputs: int8 [N, *model input without batch]; expected: int8 [N, *model output without batch], what the
    tflite-micro interpreter answers; labels: int64 [N], -1 where unknown; float_logits: float32 [N, classes],
    None for a model that was not trained here.
    """

    run: RunFolder
    config: RunConfig
    board: Board
    graph: Graph
    inputs: npt.NDArray[np.int8]
    expected: npt.NDArray[np.int8]
    labels: npt.NDArray[np.int64]
    float_logits: npt.NDArray[np.float32] | None

    @classmethod
    def load(cls, folder: Path, samples: int | None) -> Model:
        """Read a run folder; `samples` limits how many samples are taken.

        Raises:
            ConfigError: an artefact is missing or damaged.
            ModelError: the model is damaged.
        """
        run = RunFolder(folder)
        config = load_config(run.config if run.config.exists() else None)
        arrays = _load_arrays(run.need(run.evaluation, "test"))
        try:
            return cls(
                run=run,
                config=config,
                board=load_board(config.board.name),
                graph=stages.load_model(run),
                inputs=arrays["inputs"][:samples],
                expected=arrays["int8_outputs"][:samples],
                labels=arrays["labels"][:samples],
                float_logits=arrays["float_logits"][:samples] if "float_logits" in arrays else None,
            )
        except KeyError as error:
            raise ConfigError(
                f"{run.evaluation}: {error} is missing; delete the file and test again"
            ) from None


def _load_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except (OSError, ValueError, EOFError) as error:
        raise ConfigError(f"{path}: damaged ({error}); delete it and test again") from None
