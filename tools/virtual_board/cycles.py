"""An estimate of the Cortex-M7's cycles from what was executed. An estimate: nothing here is measured.

It counts one cycle for each instruction.
"""

from __future__ import annotations

from collections.abc import Iterable

from tools.virtual_board.memory import BlockCount, Memory


def estimate_cycles(_memory: Memory, blocks: Iterable[BlockCount]) -> int:
    """Estimate the cycles of the executed blocks."""
    return sum(block.instructions * block.hits for block in blocks)
