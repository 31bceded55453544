"""What peripherals have in common: registers with reset values, and the bus that finds them."""

from __future__ import annotations

from typing import Protocol


class Surroundings(Protocol):
    """What a peripheral knows of the board around it."""

    def warn(self, text: str) -> None:
        """Report a use that the real chip would punish, with the place in the firmware."""

    def now(self) -> int:
        """Return the instructions executed so far, to within one block."""

    def rest(self) -> None:
        """Stop soon: firmware only waits for something from outside."""


class Peripheral:
    """Registers of 32 bits that keep what is written, unless a subclass says otherwise.

    Attributes:
        name: as the reference manual calls it.
        base: address of its first register.
        resets: offset of every modelled register, and its value after reset.
        values: offset of every modelled register, and its present value.
    """

    def __init__(self, name: str, base: int, resets: dict[int, int], board: Surroundings) -> None:
        self.name = name
        self.base = base
        self.resets = resets
        self.board = board
        self.values = dict(resets)

    def reset(self) -> None:
        """Return to the state after reset."""
        self.values = dict(self.resets)

    @property
    def clocked(self) -> bool:
        """Whether its clock runs; without it reads give 0 and writes are lost."""
        return True

    def read(self, offset: int) -> int:
        """Return a register's value as the core reads it, with the side effects of reading."""
        return self.values[offset]

    def read_without_clock(self, _offset: int) -> int:
        """Return what the core reads while the clock is off."""
        return 0

    def write(self, offset: int, value: int, mask: int) -> None:
        """Write the bits of `mask`, those of the bytes that the core writes, to a register."""
        self.store(offset, self.values[offset] & ~mask | value & mask)

    def store(self, offset: int, value: int) -> None:
        """Take a register's new value."""
        self.values[offset] = value


class Bus:
    """Finds the peripheral of an address, and widens accesses to 32 bits."""

    def __init__(self, peripherals: list[Peripheral], board: Surroundings) -> None:
        self._board = board
        self._registers = {
            peripheral.base + offset: (peripheral, offset)
            for peripheral in peripherals
            for offset in peripheral.resets
        }

    @property
    def addresses(self) -> list[int]:
        """Addresses of all registers."""
        return sorted(self._registers)

    def _warn_of_clock(self, peripheral: Peripheral) -> None:
        self._board.warn(f"{peripheral.name} is used while its clock is off: the access has no effect")

    def read(self, address: int, size: int) -> int:
        """Return `size` bytes at `address`."""
        peripheral, offset = self._registers[address & ~3]
        if peripheral.clocked:
            value = peripheral.read(offset)
        else:
            self._warn_of_clock(peripheral)
            value = peripheral.read_without_clock(offset)
        return value >> 8 * (address & 3) & ((1 << 8 * size) - 1)

    def write(self, address: int, size: int, value: int) -> None:
        """Write `size` bytes at `address`."""
        peripheral, offset = self._registers[address & ~3]
        shift = 8 * (address & 3)
        if peripheral.clocked:
            peripheral.write(offset, value << shift, ((1 << 8 * size) - 1) << shift)
        else:
            self._warn_of_clock(peripheral)
