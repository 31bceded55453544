"""The cycle counter. ARMv7-M ARM C1.8. It counts instructions: the board's own clock."""

from __future__ import annotations

from collections.abc import Callable

from tools.virtual_board.peripherals.base import Peripheral, Surroundings

_CTRL, _CYCCNT, _LAR, _LSR = 0x00, 0x04, 0xFB0, 0xFB4
_CYCCNTENA = 1 << 0
_KEY = 0xC5AC_CE55
_PRESENT, _LOCKED = 1 << 0, 1 << 1
_MASK = 0xFFFF_FFFF


class Dwt(Peripheral):
    """DWT with CYCCNT; comparators and the other counters are registers without effect."""

    def __init__(
        self, exact_now: Callable[[], int], trace_enabled: Callable[[], bool], board: Surroundings
    ) -> None:
        resets = dict.fromkeys((*range(0, 0x60, 4), _LAR, _LSR), 0) | {_CTRL: 0x4000_0000, _LSR: 3}
        super().__init__("DWT", 0xE000_1000, resets, board)
        self._now = exact_now
        self._trace_enabled = trace_enabled
        self._base = 0

    @property
    def _counting(self) -> bool:
        return bool(self.values[_CTRL] & _CYCCNTENA) and self._trace_enabled()

    def read(self, offset: int) -> int:
        """Return a register; CYCCNT is exact at the reading instruction."""
        if offset == _CYCCNT and self._counting:
            return self._now() - self._base & _MASK
        return self.values[offset]

    def store(self, offset: int, value: int) -> None:
        """Take a register's new value, if the lock and DEMCR allow."""
        if offset == _LAR:
            self.values[_LSR] = _PRESENT | (0 if value == _KEY else _LOCKED)
        elif self.values[_LSR] & _LOCKED:
            self.board.warn("DWT is written while it is locked (DWT_LAR): the write has no effect")
        elif not self._trace_enabled():
            self.board.warn("DWT is written while DEMCR.TRCENA is 0: the write has no effect")
        elif offset == _CYCCNT:
            self.values[_CYCCNT] = value
            self._base = self._now() - value
        elif offset == _CTRL:
            was_counting = self._counting
            self.values[_CTRL] = value & 0x0FFF_FFFF | 0x4000_0000
            if self._counting and not was_counting:
                self._base = self._now() - self.values[_CYCCNT]
            elif was_counting and not self._counting:
                self.values[_CYCCNT] = self._now() - self._base & _MASK
        elif offset != _LSR:
            self.values[offset] = value
