"""GPIO ports, as far as pins must be connected to a peripheral. RM0385 6.4."""

from __future__ import annotations

from tools.virtual_board.peripherals.base import Peripheral, Surroundings
from tools.virtual_board.peripherals.clocks import Rcc

PORTS = "ABCDEFGHIJK"
_MODER, _PUPDR, _IDR, _ODR, _BSRR, _AFRL = 0x00, 0x0C, 0x10, 0x14, 0x18, 0x20
_RESETS = {
    "A": {_MODER: 0xA800_0000, 0x08: 0x0C00_0000, _PUPDR: 0x6400_0000},
    "B": {_MODER: 0x0000_0280, 0x08: 0x0000_00C0, _PUPDR: 0x0000_0100},
}
_ALTERNATE = 2


class Gpio(Peripheral):
    """One port of 16 pins."""

    def __init__(self, port: str, rcc: Rcc, board: Surroundings) -> None:
        resets = dict.fromkeys(range(0, 0x28, 4), 0) | _RESETS.get(port, {})
        self._number = PORTS.index(port)
        super().__init__(f"GPIO{port}", 0x4002_0000 + 0x400 * self._number, resets, board)
        self._rcc = rcc

    @property
    def clocked(self) -> bool:
        """Whether the port's bit in RCC_AHB1ENR is set."""
        return self._rcc.gpio_clocked(self._number)

    def alternate_function(self, pin: int) -> int | None:
        """Return the number of the alternate function that `pin` is switched to, None in other modes."""
        if self.values[_MODER] >> 2 * pin & 3 != _ALTERNATE:
            return None
        return self.values[_AFRL + 4 * (pin >> 3)] >> 4 * (pin & 7) & 15

    def read(self, offset: int) -> int:
        """Return a register; inputs read as their pull-ups say, outputs as what they drive."""
        if offset != _IDR:
            return super().read(offset)
        value = 0
        for pin in range(16):
            output = self.values[_MODER] >> 2 * pin & 3 == 1
            level = self.values[_ODR] >> pin & 1 if output else self.values[_PUPDR] >> 2 * pin & 3 == 1
            value |= int(level) << pin
        return value

    def store(self, offset: int, value: int) -> None:
        """Take a register's new value; BSRR sets and resets bits of ODR."""
        if offset == _BSRR:
            self.values[_ODR] = self.values[_ODR] & ~(value >> 16) | value & 0xFFFF
        elif offset != _IDR:
            self.values[offset] = value
