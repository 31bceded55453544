"""What the float model, the int8 model on the host and the target answered to the same samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from common.errors import ConfigError
from tools.report import counting
from tools.report.content import Precision, Precisions, Sample, Score
from tools.report.counting import Labels
from tools.report.formats import printable
from tools.results import BoardResults


@dataclass(frozen=True)
class Answers:
    """Predicted classes int64 [N] of the N samples that the target answered; labels are -1 where unknown.

    output_differs: bool [N], whether any output byte differs between the target and the int8 host; images:
    uint8 [>= N, H, W, C] or None. The classes of a detector, which has `precisions`, mean nothing.
    """

    labels: Labels
    int8: Labels
    board: Labels
    float_model: Labels | None
    images: npt.NDArray[np.uint8] | None
    classes: tuple[str, ...]
    output_differs: npt.NDArray[np.bool_]
    precisions: Precisions | None

    @classmethod
    def read(cls, path: Path, results: BoardResults) -> Self:
        """Read `evaluation.npz` and keep the samples that the target answered."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                found = dict(arrays)
            number = len(results.predictions)
            expected = found["int8_outputs"][:number].reshape(number, -1)
            outputs = np.array(results.outputs, np.int64).reshape(number, -1)
            if len(expected) < number or outputs.shape != expected.shape:
                raise ConfigError(f"{path}: its samples are not those that the target answered; test again")
            differs = (outputs != expected).any(axis=1)
            equal = not differs.any() and number == len(found["int8_outputs"])
            return cls(
                labels=found["labels"][:number].astype(np.int64),
                int8=_classes(expected),
                board=np.array(results.predictions, np.int64),
                float_model=_classes(found["float_logits"][:number]) if "float_logits" in found else None,
                images=_displayable(found.get("images")),
                classes=tuple(printable(str(name)) for name in found["class_names"]),
                output_differs=differs,
                precisions=_precisions(found["precisions"], equal) if "precisions" in found else None,
            )
        except (OSError, ValueError, TypeError, EOFError, KeyError, BadZipFile) as error:
            raise ConfigError(f"{path}: damaged ({error}); delete it and run: tinyboost test") from None

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """Which samples have a label, bool [N]."""
        return self.labels >= 0

    @property
    def different(self) -> Labels:
        """Indices of samples whose class is another on the target; of a detector, whose output is."""
        if self.precisions is not None:
            return np.flatnonzero(self.output_differs).astype(np.int64)
        return counting.differing(self.int8, self.board)

    @property
    def mistakes(self) -> Labels:
        """Indices of labelled samples that the target answers wrongly."""
        return np.flatnonzero(self.labelled & (self.board != self.labels)).astype(np.int64)

    def score(self, predictions: Labels | None) -> Score:
        """How many labelled samples `predictions` has right."""
        known = self.labelled
        if predictions is None or not known.any():
            return Score(None, int(known.sum()))
        return Score(int(np.count_nonzero((predictions == self.labels)[known])), int(known.sum()))

    def confusion(self) -> npt.NDArray[np.int64] | None:
        """Confusion matrix of the labelled samples, None without labels."""
        known = self.labelled
        if not known.any():
            return None
        classes = max(len(self.classes), int(self.labels.max()) + 1, int(self.board.max()) + 1)
        return counting.confusion(self.labels[known], self.board[known], classes)

    def pictures(self, indices: Labels) -> tuple[Sample, ...]:
        """The samples of `indices`, none where there is nothing to look at."""
        return () if self.images is None else self.samples(indices)

    def samples(self, indices: Labels) -> tuple[Sample, ...]:
        """The samples of `indices`, with their images where there are any; none of a detector."""
        if self.precisions is not None:
            return ()
        return tuple(
            Sample(
                index=index,
                int8=int(self.int8[index]),
                board=int(self.board[index]),
                label=int(self.labels[index]) if self.labels[index] >= 0 else None,
                float_model=None if self.float_model is None else int(self.float_model[index]),
                image=None if self.images is None else self.images[index],
            )
            for index in indices.tolist()
        )


def _precisions(rows: npt.NDArray[np.float64], board_equals_int8: bool) -> Precisions:
    float_model, int8 = (Precision(*row) for row in rows.tolist())
    return Precisions(float_model, int8, int8 if board_equals_int8 else None)


def _classes(outputs: npt.NDArray[Any]) -> Labels:
    """Predicted class of each output vector [N, ...]: the first of the largest elements."""
    return np.asarray(outputs.reshape(len(outputs), -1).argmax(axis=1), np.int64)


def _displayable(images: npt.NDArray[np.uint8] | None) -> npt.NDArray[np.uint8] | None:
    """The images if they are uint8 [N, H, W, C] in grey or colour, else None."""
    if images is None or images.ndim != 4 or images.shape[-1] not in (1, 3):
        return None
    return images
