"""What cannot be told from counts of blocks: the misses of the caches and of the branch prediction.

While a trace runs, native callbacks see each block and each access to memory and play 4 KB of instruction
cache (two ways), 4 KB of data cache (four ways, write-back, allocating on writes) and a table of two-bit
branch predictors. Firmware then runs at a fraction of its usual speed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from unicorn import unicorn_const as const

from converter.board import Board
from tools.virtual_board.cpu import Cpu
from tools.virtual_board.native import trace_layout as at
from tools.virtual_board.native.library import load

_TIGHTLY_COUPLED = "dtcm"  # the RAM that no cache stands before


class Events(NamedTuple):
    """How often something happened; fills and write-backs are cache lines of 32 bytes.

    code_fills: from flash, of the instruction cache. constant_fills: from flash, of the data cache.
    data_fills, store_fills: from RAM, for a load or a store.
    """

    mispredictions: int = 0
    code_fills: int = 0
    constant_fills: int = 0
    data_fills: int = 0
    store_fills: int = 0
    write_backs: int = 0
    unaligned_loads: int = 0

    def plus(self, other: Events) -> Events:
        """Return the sum."""
        return Events(*(left + right for left, right in zip(self, other, strict=True)))


class Trace:
    """Counts events of one core from `start` to `stop`."""

    def __init__(self, cpu: Cpu, board: Board) -> None:
        self._cpu = cpu
        self._board = board
        self._words = np.zeros(at.WORDS, np.int64)
        self._hooks: list[int] = []

    def start(self) -> None:
        """Begin, with empty caches."""
        self.stop()
        words = self._words
        words[:] = 0
        cached = [region for region in self._board.ram if region.name != _TIGHTLY_COUPLED]
        words[at.FLASH_START], words[at.FLASH_END] = self._board.flash.origin, self._board.flash.end
        if cached:
            words[at.RAM_START] = min(region.origin for region in cached)
            words[at.RAM_END] = max(region.end for region in cached)
        callbacks = load()
        accesses = const.UC_HOOK_MEM_READ | const.UC_HOOK_MEM_WRITE
        self._hooks = [
            self._cpu.add_native_hook(kind, callback, words.ctypes.data)
            for kind, callback in (
                (const.UC_HOOK_BLOCK, callbacks.on_traced_block),
                (accesses, callbacks.on_traced_access),
            )
        ]
        self._cpu.translate_anew()

    def stop(self) -> None:
        """End, and let firmware run at full speed."""
        for hook in self._hooks:
            self._cpu.remove_native_hook(hook)
        if self._hooks:
            self._cpu.translate_anew()
        self._hooks = []

    @property
    def events(self) -> Events:
        """What was counted since the start or the last reset of the counts."""
        return Events(*(int(count) for count in self._words[: at.COUNTERS]))

    def reset_counts(self) -> None:
        """Count from zero; the caches keep what they hold."""
        self._words[: at.COUNTERS] = 0
