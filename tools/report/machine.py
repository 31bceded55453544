"""`report.json`: the report as other programs read it. Its keys are relied on from outside."""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tools.config import TargetName
from tools.report import verdict
from tools.report.content import Precisions, Report
from tools.results import FlashUse, RamUse, RegionUse, Unit

Fraction = float | None


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)


class AccuracyJson(_Section):
    """Top-1 as fractions of 1."""

    float_model: Fraction = Field(alias="float", ge=0, le=1)
    int8: Fraction = Field(ge=0, le=1)
    board: Fraction = Field(ge=0, le=1)


class PrecisionJson(_Section):
    """Average precisions of a detector as fractions of 1."""

    ap50: float = Field(ge=0, le=1)
    mean_ap: float = Field(ge=0, le=1)
    voc_ap50: float = Field(ge=0, le=1)


class PrecisionsJson(_Section):
    """Average precisions of the three models; `board` is null where it did not answer as int8 on the host."""

    float_model: PrecisionJson = Field(alias="float")
    int8: PrecisionJson
    board: PrecisionJson | None


class LayerJson(_Section):
    """One layer; arena bytes are those live while it runs; count is what the target counted, in `unit`."""

    name: str
    op: str
    macs: int = Field(ge=0)
    instructions: int | None = Field(ge=0)
    count: int | None = Field(ge=0)
    arena: int | None = Field(ge=0)
    weights: int = Field(ge=0)


class ReportJson(_Section):
    """Schema 1 of `report.json`. Fractions, bytes, seconds, Hz; null where a run has no such value."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    name: str
    passed: bool
    model: str
    board: str
    accuracy: AccuracyJson
    precisions: PrecisionsJson | None
    samples: int = Field(ge=0)
    mismatches: int = Field(ge=0)
    output_mismatches: int | None = Field(ge=0)
    target: TargetName
    engine: str
    unit: Unit
    instructions: int | None = Field(ge=0)
    cycles_estimate: int | None = Field(ge=0)
    latency_ms: float | None = Field(ge=0)
    clock_hz: int = Field(gt=0)
    ram: RamUse
    flash: FlashUse
    layers: tuple[LayerJson, ...]
    model_sha256: str
    git_revision: str
    stages: dict[str, float]
    versions: dict[str, str]
    warnings: tuple[str, ...]


def machine_report(report: Report) -> ReportJson:
    """The report's figures under the names that other programs read."""
    accuracy, timing, ram, flash = report.accuracy, report.timing, report.ram, report.flash
    return ReportJson(
        name=report.name,
        passed=verdict.passed(report),
        model=report.model,
        board=report.board,
        accuracy=AccuracyJson(
            float_model=accuracy.float_model.top1, int8=accuracy.int8_host.top1, board=accuracy.board.top1
        ),
        precisions=_precisions(report.precisions),
        samples=report.samples,
        mismatches=report.mismatches,
        output_mismatches=report.output_mismatches,
        target=report.target,
        engine=report.engine,
        unit=timing.unit,
        instructions=timing.instructions,
        cycles_estimate=timing.cycles_estimate,
        latency_ms=timing.latency_ms,
        clock_hz=timing.clock_hz,
        ram=RamUse(
            total=ram.total,
            budget=ram.budget,
            arena=ram.arena,
            data_bss=ram.data_bss,
            stack=ram.stack,
            by_region={region.name: RegionUse(used=region.used, size=region.size) for region in ram.regions},
        ),
        flash=FlashUse(total=flash.total, budget=flash.budget, weights=flash.weights, code=flash.code),
        layers=tuple(
            LayerJson(
                name=layer.name,
                op=layer.op,
                macs=layer.macs,
                instructions=layer.count if timing.unit == "instructions" else None,
                count=layer.count,
                arena=layer.arena,
                weights=layer.weights,
            )
            for layer in report.layers
        ),
        model_sha256=report.model_sha256,
        git_revision=report.git_revision,
        stages=dict(report.stages),
        versions=dict(report.versions),
        warnings=report.warnings,
    )


def _precisions(found: Precisions | None) -> PrecisionsJson | None:
    if found is None:
        return None
    board = None if found.board is None else PrecisionJson(**asdict(found.board))
    return PrecisionsJson(
        float_model=PrecisionJson(**asdict(found.float_model)),
        int8=PrecisionJson(**asdict(found.int8_host)),
        board=board,
    )


def to_json(report: ReportJson) -> str:
    """`report.json` as text."""
    return report.model_dump_json(indent=2, by_alias=True) + "\n"
