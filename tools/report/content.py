"""All that a report shows, as one typed tree: the renderers read it and nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from tools.config import TargetName
from tools.results import Unit

TensorRole = Literal["input", "output", "activation", "scratch"]

TARGET_TITLES: Mapping[TargetName, str] = {
    "host": "host build",
    "virtual": "virtual board",
    "renode": "Renode",
    "board": "board",
}


@dataclass(frozen=True)
class Score:
    """Top-1 of one model: `correct` of `samples`, None without labels or predictions."""

    correct: int | None
    samples: int

    @property
    def top1(self) -> float | None:
        """Fraction of correct predictions, None where there is none to give."""
        if self.correct is None or self.samples == 0:
            return None
        return self.correct / self.samples

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % confidence interval of `top1` (Wilson, JASA 22, 1927)."""
        if self.top1 is None:
            return None
        z, n, p = 1.959964, self.samples, self.top1
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True)
class Accuracy:
    """Top-1 of the float model, the int8 model on the host and the image on the target."""

    float_model: Score
    int8_host: Score
    board: Score


@dataclass(frozen=True)
class Precision:
    """Average precisions of a detector, 0..1.

    COCO's at an overlap of 0.5 and over 0.5 to 0.95, and VOC2007's at 0.5.
    """

    ap50: float
    mean_ap: float
    voc_ap50: float


@dataclass(frozen=True)
class Precisions:
    """Those of the float model, of the int8 model on the host, and of the image on the target.

    `board` is None where that did not answer all samples as the int8 model does, bit for bit.
    """

    float_model: Precision
    int8_host: Precision
    board: Precision | None


@dataclass(frozen=True)
class Timing:
    """One inference as the target counted it, in `unit`; milliseconds are measured on silicon alone."""

    clock_hz: int
    unit: Unit
    count: int | None = None
    cycles_estimate: int | None = None
    latency_ms: float | None = None

    @property
    def instructions(self) -> int | None:
        """Instructions of an inference, exact and repeatable; None where the target does not count them."""
        return self.count if self.unit == "instructions" else None

    @property
    def estimated_ms(self) -> float | None:
        """Estimated milliseconds at `clock_hz`, None without an estimate."""
        return None if self.cycles_estimate is None else self.cycles_estimate / self.clock_hz * 1e3


@dataclass(frozen=True)
class RamRegion:
    """Bytes used and available in one RAM region."""

    name: str
    used: int
    size: int


@dataclass(frozen=True)
class Ram:
    """RAM of the image in bytes; stack is the measured high-water mark, else the reservation."""

    budget: int
    arena: int
    data_bss: int
    stack: int
    stack_measured: bool = True
    regions: tuple[RamRegion, ...] = ()

    @property
    def total(self) -> int:
        """All RAM that the image needs, bytes."""
        return self.arena + self.data_bss + self.stack


@dataclass(frozen=True)
class Flash:
    """Flash of the image in bytes; `code` is all that is not weights."""

    budget: int
    weights: int
    code: int

    @property
    def total(self) -> int:
        """All flash that the image takes, bytes."""
        return self.weights + self.code


@dataclass(frozen=True)
class PlannedTensor:
    """A buffer of the arena: bytes [offset, offset + size) while operators first … last run."""

    name: str
    role: TensorRole
    first: int
    last: int
    offset: int
    size: int


@dataclass(frozen=True)
class MemoryPlan:
    """Where each tensor lies in the arena; `peak` is the index of the operator that needs most."""

    arena: int
    operators: tuple[str, ...]
    tensors: tuple[PlannedTensor, ...]
    peak: int

    @property
    def live_at_peak(self) -> tuple[PlannedTensor, ...]:
        """The buffers that make the peak, largest first; of those that share their place, the largest."""
        live = [tensor for tensor in self.tensors if tensor.first <= self.peak <= tensor.last]
        largest_at = {tensor.offset: tensor for tensor in sorted(live, key=lambda tensor: tensor.size)}
        return tuple(sorted(largest_at.values(), key=lambda tensor: -tensor.size))


@dataclass(frozen=True)
class Layer:
    """One layer.

    weights: bytes of its constants in flash; arena: bytes live while it runs; count: what the target counted
    for it, in the timing's unit.
    """

    index: int
    name: str
    op: str
    macs: int
    weights: int
    arena: int | None = None
    count: int | None = None

    @property
    def count_per_mac(self) -> float | None:
        """Counts for each multiply-accumulate, None for layers without any."""
        return self.count / self.macs if self.count is not None and self.macs else None


@dataclass(frozen=True)
class Curve:
    """A quantity over epochs, drawn in the panel of its name."""

    name: str
    panel: str
    epochs: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Sample:
    """One test sample and its predicted classes; image is uint8 [H, W, C] with C 1 or 3."""

    index: int
    int8: int
    board: int
    label: int | None = None
    float_model: int | None = None
    image: npt.NDArray[np.uint8] | None = None

    @property
    def is_wrong(self) -> bool:
        """Whether the board's answer is not the label."""
        return self.label is not None and self.board != self.label

    @property
    def differs(self) -> bool:
        """Whether board and int8 host answer differently."""
        return self.board != self.int8


@dataclass(frozen=True)
class Report:
    """A run: what three models answered for the same samples, and what that took on the target.

    mismatches: samples whose predicted class differs between board and int8 host; of a detector, any byte.
    precisions: of a detector, which has no `accuracy`, `confusion` nor classes to show beside images.
    output_mismatches: samples whose output bytes differ at all, None where outputs were not compared.
    quantization_changes: samples whose predicted class differs between float and int8, None without float.
    confusion: int64 [classes, classes], rows labels, columns the board's predictions.
    stages: seconds of each stage, in the order in which they ran.
    """

    name: str
    model: str
    board: str
    target: TargetName
    engine: str
    samples: int
    accuracy: Accuracy
    mismatches: int
    timing: Timing
    ram: Ram
    flash: Flash
    model_sha256: str
    git_revision: str
    precisions: Precisions | None = None
    output_mismatches: int | None = None
    quantization_changes: int | None = None
    plan: MemoryPlan | None = None
    layers: tuple[Layer, ...] = ()
    training: tuple[Curve, ...] = ()
    classes: tuple[str, ...] = ()
    confusion: npt.NDArray[np.int64] | None = None
    first_samples: tuple[Sample, ...] = ()
    mistakes: tuple[Sample, ...] = ()
    differences: tuple[Sample, ...] = ()
    stages: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def class_name(self, index: int) -> str:
        """Name of a class, its number where it has none."""
        return self.classes[index] if 0 <= index < len(self.classes) else str(index)
