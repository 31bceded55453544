"""An estimate of the Cortex-M7's cycles from what was executed. An estimate: nothing here is measured.

The model, its sources and what it leaves out are in docs/virtual_board.md, "Cycle estimate".
"""

from __future__ import annotations

from collections.abc import Iterable

from tools.virtual_board.memory import BlockCount, Memory
from tools.virtual_board.pipeline import time_block
from tools.virtual_board.snapshot import CycleEstimate
from tools.virtual_board.trace import Events

# Cycles that the core stands still at 216 MHz. Assumed, but for the first and the last: jnk0le measured them.
MISPREDICTION = 8
FLASH_FILL = 12  # a row of flash, as wide as a line: 7 wait states + 1, and 4 to cross the bus and back
RAM_FILL = 7  # over a bus of 32 bits, until the 64 bits come that are wanted
STORE_FILL = 4  # what the store buffer does not hide
WRITE_BACK = 4
UNALIGNED_LOAD = 3
_NONE = Events()


def estimate(memory: Memory, blocks: Iterable[BlockCount], events: Events = _NONE) -> CycleEstimate:
    """Estimate where the cycles of the executed blocks went.

    Without events of a trace the caches hold everything and no branch is mispredicted: a lower bound.
    """
    issue = operands = 0.0
    for block in blocks:
        timing = time_block(memory.read(block.address, block.size) or b"")
        issue += timing.issue * block.hits
        operands += timing.operands * block.hits
    return CycleEstimate(
        issue=round(issue),
        operands=round(operands),
        branches=events.mispredictions * MISPREDICTION,
        code=events.code_fills * FLASH_FILL,
        constants=events.constant_fills * FLASH_FILL,
        data=events.data_fills * RAM_FILL
        + events.store_fills * STORE_FILL
        + events.write_backs * WRITE_BACK
        + events.unaligned_loads * UNALIGNED_LOAD,
    )
