"""`board.json`: what a target answered, how much it counted and how much memory it used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import median_low
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common import files
from common.errors import ConfigError
from tools.config import TargetName

Unit = Literal["instructions", "cycles", "nanoseconds"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class RegionUse(_Section):
    """Bytes of a RAM region that the image occupies, the whole stack reservation among them; and its size."""

    used: int = Field(ge=0)
    size: int = Field(gt=0)


class RamUse(_Section):
    """RAM in bytes: total = arena + data_bss + stack.

    stack: the measured high-water mark, or the reservation where nothing was measured.
    """

    total: int = Field(ge=0)
    budget: int = Field(gt=0)
    arena: int = Field(ge=0)
    data_bss: int = Field(ge=0)
    stack: int = Field(ge=0)
    by_region: dict[str, RegionUse]


class FlashUse(_Section):
    """Flash in bytes: total = weights + code, code being all that is not a constant of the model."""

    total: int = Field(ge=0)
    budget: int = Field(gt=0)
    weights: int = Field(ge=0)
    code: int = Field(ge=0)


class ImageMemory(_Section):
    """What an image occupies by its ELF, in bytes. data and bss are without arena and stack."""

    flash_budget: int = Field(gt=0)
    weights: int = Field(ge=0)
    code: int = Field(ge=0)
    data: int = Field(ge=0)
    bss: int = Field(ge=0)
    arena: int = Field(ge=0)
    stack_reserve: int = Field(ge=0)
    regions: dict[str, RegionUse]

    @property
    def flash(self) -> FlashUse:
        """Use of the flash."""
        total = self.weights + self.code
        return FlashUse(total=total, budget=self.flash_budget, weights=self.weights, code=self.code)

    def ram(self, stack_used: int | None = None) -> RamUse:
        """Use of the RAM, with the stack's reservation or what was measured of it."""
        stack = self.stack_reserve if stack_used is None else stack_used
        data_bss = self.data + self.bss
        return RamUse(
            total=self.arena + data_bss + stack,
            budget=sum(region.size for region in self.regions.values()),
            arena=self.arena,
            data_bss=data_bss,
            stack=stack,
            by_region=self.regions,
        )


class LayerCount(_Section):
    """One layer: multiply-accumulates, and what the target counted for it in one inference."""

    index: int = Field(ge=0)
    name: str
    op: str
    macs: int = Field(ge=0)
    count: int = Field(ge=0)


class BoardResults(_Section):
    """Answers of a target to the first samples of `evaluation.npz`.

    description: HELLO's entries. outputs: int8 output vector of each sample, in the samples' order;
    predictions: argmax of each. counts: what the target counted for each inference, in `unit`.
    mismatches: samples whose prediction differs from the int8 model's on the host; output_mismatches: samples
    whose output differs in any byte. stack_used: bytes. complete: all samples were answered, so a run
    that is not can go on from here. image: None for the host build, which is no image of the chip.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    target: TargetName
    complete: bool
    description: Mapping[str, str]
    samples: int = Field(ge=0)
    unit: Unit
    outputs: list[list[int]]
    predictions: list[int]
    counts: list[int]
    mismatches: int = Field(ge=0)
    output_mismatches: int = Field(ge=0)
    cycles_estimate: int | None = None
    stack_used: int | None = None
    image: ImageMemory | None = None
    layers: list[LayerCount] = Field(default_factory=list)

    @property
    def count(self) -> int | None:
        """Median count of an inference."""
        return median_low(self.counts) if self.counts else None

    @property
    def instructions(self) -> int | None:
        """Instructions of an inference, where the target counts them."""
        return self.count if self.unit == "instructions" else None

    @property
    def latency_ms(self) -> float | None:
        """Milliseconds of an inference, measured on silicon; None elsewhere."""
        if self.unit != "cycles" or self.count is None:
            return None
        return self.count / int(self.description["clock_hz"]) * 1e3

    @property
    def ram(self) -> RamUse | None:
        """Use of the RAM with the measured stack, where there is an image."""
        return self.image.ram(self.stack_used) if self.image else None

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read `board.json`.

        Raises:
            ConfigError: it is absent or damaged.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ConfigError(f"{path}: not there yet; make it with: tinyboost test") from error
        except ValidationError as error:
            raise ConfigError(
                f"{path}: damaged ({error.errors()[0]['msg']}); delete it and test again"
            ) from None

    def save(self, path: Path) -> None:
        """Write `board.json` atomically."""
        files.write_text(path, self.model_dump_json(by_alias=True) + "\n")
