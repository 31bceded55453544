"""The interrupt controller and the system timer. ARMv7-M ARM B3.3, B3.4."""

from __future__ import annotations

from tools.virtual_board.exceptions import FIRST_INTERRUPT, INTERRUPTS, SYS_TICK, Exceptions
from tools.virtual_board.peripherals.base import Peripheral, Surroundings

_BASE = 0xE000_E000
_ENABLE, _DISABLE, _SET_PENDING, _CLEAR_PENDING, _ACTIVE, _PRIORITY = 0x100, 0x180, 0x200, 0x280, 0x300, 0x400
_STIR = 0xF00
_WORDS = (INTERRUPTS + 31) // 32
_NVIC_OFFSETS = [
    base + 4 * word
    for base in (_ENABLE, _DISABLE, _SET_PENDING, _CLEAR_PENDING, _ACTIVE)
    for word in range(_WORDS)
]


class Nvic(Peripheral):
    """The interrupt controller's registers."""

    def __init__(self, exceptions: Exceptions, board: Surroundings) -> None:
        priorities = range(_PRIORITY, _PRIORITY + 4 * ((INTERRUPTS + 3) // 4), 4)
        super().__init__("NVIC", _BASE, dict.fromkeys((*_NVIC_OFFSETS, *priorities, _STIR), 0), board)
        self._exceptions = exceptions

    def _set_of(self, offset: int) -> set[int]:
        state = self._exceptions.state
        if offset >= _ACTIVE:
            return set(state.active)
        return state.interrupts_enabled if offset < _SET_PENDING else state.pending

    def read(self, offset: int) -> int:
        """Return a register."""
        if offset == _STIR:
            return 0
        if offset >= _PRIORITY:
            first = offset - _PRIORITY + FIRST_INTERRUPT
            priorities = self._exceptions.state.priorities
            return sum(priorities.get(first + byte, 0) << 8 * byte for byte in range(4))
        first = (offset & 0x7F) * 8 + FIRST_INTERRUPT
        numbers = self._set_of(offset)
        return sum(1 << bit for bit in range(32) if first + bit in numbers)

    def write(self, offset: int, value: int, mask: int) -> None:
        """Write the bits of `mask` to a register."""
        value &= mask
        state = self._exceptions.state
        if offset == _STIR:
            state.pending.add(FIRST_INTERRUPT + (value & 0x1FF))
        elif offset >= _PRIORITY:
            for byte in range(4):
                if mask >> 8 * byte & 0xFF:
                    number = offset - _PRIORITY + FIRST_INTERRUPT + byte
                    state.priorities[number] = value >> 8 * byte & 0xF0
        elif offset < _ACTIVE:
            first = (offset & 0x7F) * 8 + FIRST_INTERRUPT
            numbers = {first + bit for bit in range(32) if value >> bit & 1}
            target = self._set_of(offset)
            if offset & 0x80:
                target -= numbers
            else:
                target |= numbers
        self.board.rest()


_CSR, _RVR, _CVR, _CALIB = 0x010, 0x014, 0x018, 0x01C
_TICK_ENABLE, _TICKINT, _CLKSOURCE, _COUNTFLAG = 1 << 0, 1 << 1, 1 << 2, 1 << 16
_EXTERNAL_DIVIDER = 8
_COUNTER_MASK = 0xFF_FFFF


class SysTick(Peripheral):
    """The system timer; an instruction takes one clock of the core."""

    def __init__(self, exceptions: Exceptions, board: Surroundings) -> None:
        super().__init__("SysTick", _BASE, {_CSR: 0, _RVR: 0, _CVR: 0, _CALIB: 0x4000_0000}, board)
        self._exceptions = exceptions
        self._started = 0
        self._interrupts = 0
        self._wraps_seen = 0

    @property
    def _running(self) -> bool:
        return bool(self.values[_CSR] & _TICK_ENABLE and self.values[_RVR])

    @property
    def _divider(self) -> int:
        return 1 if self.values[_CSR] & _CLKSOURCE else _EXTERNAL_DIVIDER

    @property
    def _period(self) -> int:
        return (self.values[_RVR] + 1) * self._divider

    @property
    def _wraps(self) -> int:
        return (self.board.now() - self._started) // self._period if self._running else 0

    def _restart(self) -> None:
        self._started = self.board.now()
        self._interrupts = self._wraps_seen = 0

    @property
    def next_interrupt(self) -> int | None:
        """Instruction count at which it interrupts next; None while it does not."""
        if not self._running or not self.values[_CSR] & _TICKINT:
            return None
        return self._started + (self._interrupts + 1) * self._period

    def advance(self) -> None:
        """Make its exception pending if its time has come."""
        due = self.next_interrupt
        if due is not None and self.board.now() >= due:
            self._interrupts = self._wraps
            self._exceptions.state.pending.add(SYS_TICK)

    def skip_to_interrupt(self) -> None:
        """Let the time until the next interrupt pass while the core sleeps."""
        due = self.next_interrupt
        if due is not None:
            self._started -= max(due - self.board.now(), 0)

    def read(self, offset: int) -> int:
        """Return a register; reading CSR clears COUNTFLAG."""
        if offset == _CVR and self._running:
            into_period = (self.board.now() - self._started) % self._period
            return (self.values[_RVR] - into_period // self._divider) & _COUNTER_MASK
        if offset == _CSR:
            flag = _COUNTFLAG if self._wraps > self._wraps_seen else 0
            self._wraps_seen = self._wraps
            return self.values[_CSR] & ~_COUNTFLAG | flag
        return self.values[offset]

    def store(self, offset: int, value: int) -> None:
        """Take a register's new value; any write to CVR starts the period anew."""
        if offset == _CSR:
            restarts = value & _TICK_ENABLE and not self.values[_CSR] & _TICK_ENABLE
            self.values[_CSR] = value & (_TICK_ENABLE | _TICKINT | _CLKSOURCE)
            if restarts:
                self._restart()
        elif offset == _RVR:
            self.values[_RVR] = value & _COUNTER_MASK
            self._restart()
        elif offset == _CVR:
            self._restart()
        self.board.rest()
