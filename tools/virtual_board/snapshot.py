"""What goes between a virtual board and the process that started it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from converter.board import Board
from tools.virtual_board.faults import FaultReport
from tools.virtual_board.memory import BlockCount

DEFAULT_DEADLINE = 20_000_000_000


class Start(BaseModel):
    """What to run: see `board.VirtualBoard`."""

    board: Board
    elf: Path
    deadline: int


@dataclass(frozen=True)
class Snapshot:
    """What the board counted.

    instructions counts from power-up; cycles_estimate and profile (instructions of each function without
    what it calls) from the last reset of the counters. fault is the latest fault, resets counts the resets
    that firmware asked for, warnings are uses of the chip that it would punish.
    """

    instructions: int
    cycles_estimate: int
    profile: dict[str, int]
    fault: FaultReport | None
    faults: int
    warnings: tuple[str, ...]
    resets: int
    halted: bool


@dataclass(frozen=True)
class CycleEstimate:
    """Where the estimated cycles go.

    issue: what the two issue slots allow, with nothing to wait for. operands: waiting for results of loads,
    multiplications and the like. branches: those mispredicted. code, constants: lines that the caches take
    from flash. data: all that caching RAM costs, and unaligned loads.
    """

    issue: int = 0
    operands: int = 0
    branches: int = 0
    code: int = 0
    constants: int = 0
    data: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.issue + self.operands + self.branches + self.code + self.constants + self.data


@dataclass(frozen=True)
class LayerCounts:
    """What a layer's function executed, with all that it called; cycles_estimate is the sum of cycles."""

    instructions: int
    cycles_estimate: int
    cycles: CycleEstimate
    blocks: list[BlockCount]


SNAPSHOT = TypeAdapter(Snapshot)
LAYERS = TypeAdapter(dict[int, LayerCounts])
