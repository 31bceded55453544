"""The memory protection unit. ARMv7-M ARM B3.5.

Firmware is taken to run privileged, and everything outside its regions to be accessible (PRIVDEFENA).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tools.virtual_board.native.layout import MPU_EXECUTE, MPU_READ, MPU_REGIONS, MPU_WRITE
from tools.virtual_board.peripherals.base import Peripheral, Surroundings

_TYPE, _CTRL, _RNR, _RBAR, _RASR = 0xD90, 0xD94, 0xD98, 0xD9C, 0xDA0
_BASES, _ATTRIBUTES = range(_RBAR, 0xDBC, 8), range(_RASR, 0xDBC, 8)  # with their aliases
_ENABLE, _PRIVDEFENA = 1 << 0, 1 << 2
_VALID = 1 << 4
_ALL = MPU_READ | MPU_WRITE | MPU_EXECUTE
# Access permission field AP, for privileged code; 4 is unpredictable.
_ACCESS = {0: 0, 5: MPU_READ | MPU_EXECUTE, 6: MPU_READ | MPU_EXECUTE, 7: MPU_READ | MPU_EXECUTE}


@dataclass(frozen=True)
class Restriction:
    """A part of the address space, start to before end, and what is allowed there: MPU_* bits."""

    start: int
    end: int
    allowed: int


class Mpu(Peripheral):
    """Eight regions; `on_change` is called with each region that changes, None where it is off."""

    def __init__(self, board: Surroundings) -> None:
        resets = dict.fromkeys((_CTRL, _RNR, *_BASES, *_ATTRIBUTES), 0) | {_TYPE: MPU_REGIONS << 8}
        super().__init__("MPU", 0xE000_E000, resets, board)
        self._regions = [(0, 0)] * MPU_REGIONS
        self.on_change: Callable[[int, Restriction | None], None] = lambda _number, _restriction: None

    def reset(self) -> None:
        """Return to the state after reset: off."""
        super().reset()
        self._regions = [(0, 0)] * MPU_REGIONS
        self._announce()

    def read(self, offset: int) -> int:
        """Return a register; RBAR and RASR are those of the region that RNR selects."""
        base, attributes = self._regions[self.values[_RNR]]
        if offset in _BASES:
            return base | self.values[_RNR]
        return attributes if offset in _ATTRIBUTES else self.values[offset]

    def store(self, offset: int, value: int) -> None:
        """Take a register's new value."""
        number = self.values[_RNR]
        if offset in _BASES:
            if value & _VALID:
                number = self.values[_RNR] = value & (MPU_REGIONS - 1)
            self._regions[number] = (value & 0xFFFF_FFE0, self._regions[number][1])
        elif offset in _ATTRIBUTES:
            self._regions[number] = (self._regions[number][0], value)
        elif offset == _RNR:
            self.values[_RNR] = value & (MPU_REGIONS - 1)
        elif offset == _CTRL:
            self.values[_CTRL] = value & 7
            if value & _ENABLE and not value & _PRIVDEFENA:
                self.board.warn("MPU_CTRL.PRIVDEFENA is 0, which the virtual board does not model")
        if offset != _RNR:
            self._announce()

    def _announce(self) -> None:
        enabled = bool(self.values[_CTRL] & _ENABLE)
        for number, (base, attributes) in enumerate(self._regions):
            self.on_change(number, self._restriction(base, attributes) if enabled else None)

    def _restriction(self, base: int, attributes: int) -> Restriction | None:
        if not attributes & 1:
            return None
        size = 2 << (attributes >> 1 & 31)
        if attributes >> 8 & 0xFF:
            self.board.warn("MPU_RASR disables subregions, which the virtual board does not model")
        allowed = _ACCESS.get(attributes >> 24 & 7, _ALL)
        if attributes & 1 << 28:
            allowed &= ~MPU_EXECUTE
        return Restriction(base & -size, (base & -size) + size, allowed)
