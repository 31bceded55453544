"""The system control space: SCB, FPU control, cache maintenance, debug. ARMv7-M ARM B3.2; PM0253 4."""

from __future__ import annotations

from collections.abc import Callable

from tools.virtual_board.exceptions import (
    BUS_FAULT,
    FIRST_INTERRUPT,
    MEM_MANAGE,
    NMI,
    PEND_SV,
    SV_CALL,
    SYS_TICK,
    USAGE_FAULT,
    Exceptions,
)
from tools.virtual_board.peripherals.base import Peripheral, Surroundings

BASE = 0xE000_E000
_ICSR, _VTOR, _AIRCR, _CCR = 0xD04, 0xD08, 0xD0C, 0xD14
_SHPR = range(0xD18, 0xD24)
_SHCSR, _CFSR, _HFSR, _DFSR, _MMFAR, _BFAR = 0xD24, 0xD28, 0xD2C, 0xD30, 0xD34, 0xD38
_CCSIDR, _CSSELR, _CPACR, _FPCCR = 0xD80, 0xD84, 0xD88, 0xF34
_DEMCR = 0xDFC
_ICIALLU, _DCISW, _DCCISW = 0xF50, 0xF60, 0xF74
_MAINTENANCE = range(0xF50, 0xF7C, 4)
_READ_ONLY = {
    0x004: 3,  # ICTR: 98 interrupts
    0xD00: 0x411F_C271,  # CPUID: Cortex-M7 r1p1
    0xD40: 0x30,  # ID_PFR0 ...
    0xD44: 0x200,
    0xD48: 0x0010_0000,
    0xD50: 0x0010_0030,
    0xD58: 0x0100_0000,
    0xD60: 0x0114_1110,
    0xD64: 0x0211_2000,
    0xD68: 0x2023_2231,
    0xD6C: 0x0111_1131,
    0xD70: 0x0131_0132,
    0xD78: 0x0900_0003,  # CLIDR
    0xD7C: 0x8303_C003,  # CTR
    0xF40: 0x1011_0021,  # MVFR0: single precision only
    0xF44: 0x1100_0011,
    0xF48: 0x0000_0040,
    0xF90: 0x29,  # ITCMCR: 16 KB, on
    0xF94: 0x39,  # DTCMCR: 64 KB, on
}
_RESETS = (
    dict.fromkeys((0x008, 0xD10, 0xD3C, 0xDF0, 0xDF8, _DEMCR, 0xF38, 0xF3C, 0xF98, 0xF9C), 0)
    | dict.fromkeys((_ICSR, _VTOR, _AIRCR, *_SHPR[::4], _SHCSR, _CFSR, _HFSR, _DFSR, _MMFAR, _BFAR), 0)
    | dict.fromkeys((_CCSIDR, _CSSELR, _CPACR, _FPCCR, *_MAINTENANCE), 0)
    | {_CCR: 0x0004_0200}
    | _READ_ONLY
)
_INSTRUCTION_CACHE_SIZE, _DATA_CACHE_SIZE = 0xF007_E009, 0xF003_E019  # 4 KB each
_DATA_CACHE_LINES = 128
_CCR_DIV_0_TRP, _CCR_UNALIGN_TRP, _CCR_DC, _CCR_IC = 1 << 4, 1 << 3, 1 << 16, 1 << 17
_AIRCR_KEY, _AIRCR_KEY_READ, _SYSRESETREQ = 0x05FA, 0xFA05, 1 << 2
_FAULT_ENABLES = {16: MEM_MANAGE, 17: BUS_FAULT, 18: USAGE_FAULT}
_ACTIVE_BITS = {0: MEM_MANAGE, 1: BUS_FAULT, 3: USAGE_FAULT, 7: SV_CALL, 10: PEND_SV, 11: SYS_TICK}


class SystemControl(Peripheral):
    """The system control block and its neighbours, with what they change in the core.

    Attributes:
        on_reset_request: called when AIRCR.SYSRESETREQ is set.
        on_fpu_access: called with whether CPACR grants access to the FPU.
        on_trap_divisions: called when CCR.DIV_0_TRP is set for the first time.
    """

    def __init__(self, exceptions: Exceptions, vector_table: int, board: Surroundings) -> None:
        super().__init__("SCB", BASE, _RESETS, board)
        self._exceptions = exceptions
        self._initial_vector_table = vector_table
        self._lines_invalidated = 0
        self._instruction_cache_invalidated = False
        self.on_reset_request: Callable[[], None] = lambda: None
        self.on_fpu_access: Callable[[bool], None] = lambda _granted: None
        self.on_trap_divisions: Callable[[], None] = lambda: None

    def reset(self) -> None:
        """Return to the state after reset; the debug registers keep theirs."""
        kept = self.values[_DEMCR]
        super().reset()
        self.values[_DEMCR] = kept
        self._lines_invalidated = 0
        self._instruction_cache_invalidated = False
        self._exceptions.state.vector_table = self._initial_vector_table

    @property
    def trace_enabled(self) -> bool:
        """DEMCR.TRCENA."""
        return bool(self.values[_DEMCR] & 1 << 24)

    def read(self, offset: int) -> int:
        """Return a register."""
        state = self._exceptions.state
        if offset in _SHPR:
            first = offset - _SHPR.start + MEM_MANAGE
            return sum(state.priorities.get(first + byte, 0) << 8 * byte for byte in range(4))
        if offset == _ICSR:
            return self._interrupt_control()
        if offset == _SHCSR:
            enabled = sum(
                1 << bit for bit, number in _FAULT_ENABLES.items() if number in state.faults_enabled
            )
            return enabled | sum(1 << bit for bit, number in _ACTIVE_BITS.items() if number in state.active)
        if offset == _CCSIDR:
            return _INSTRUCTION_CACHE_SIZE if self.values[_CSSELR] & 1 else _DATA_CACHE_SIZE
        if offset == _AIRCR:
            return _AIRCR_KEY_READ << 16 | state.priority_group << 8
        held = {
            _VTOR: state.vector_table,
            _CFSR: state.fault_status,
            _HFSR: state.hard_fault_status,
            _MMFAR: state.mem_manage_address,
            _BFAR: state.bus_fault_address,
            _FPCCR: state.fp_context_control,
        }
        return held[offset] if offset in held else 0 if offset in _MAINTENANCE else self.values[offset]

    def _interrupt_control(self) -> int:
        state = self._exceptions.state
        value = state.active[-1] if state.active else 0
        value |= (len(state.active) <= 1) << 11
        if state.pending:
            value |= min(state.pending) << 12
            value |= any(number >= FIRST_INTERRUPT for number in state.pending) << 22
        return value | (SYS_TICK in state.pending) << 26 | (PEND_SV in state.pending) << 28

    def write(self, offset: int, value: int, mask: int) -> None:
        """Write the bits of `mask` to a register."""
        state = self._exceptions.state
        value &= mask
        if offset in _SHPR:
            for byte in range(4):
                if mask >> 8 * byte & 0xFF:
                    state.priorities[offset - _SHPR.start + MEM_MANAGE + byte] = value >> 8 * byte & 0xF0
        elif offset == _CFSR:
            state.fault_status &= ~value
        elif offset == _HFSR:
            state.hard_fault_status &= ~value
        elif offset == _DFSR:
            self.values[_DFSR] &= ~value
        elif offset in _MAINTENANCE:
            self._maintain_caches(offset)
        elif offset not in _READ_ONLY:
            self.store(offset, self.read(offset) & ~mask | value)

    def store(self, offset: int, value: int) -> None:
        """Take a register's new value."""
        state = self._exceptions.state
        if offset == _ICSR:
            self._set_pending(value)
        elif offset == _VTOR:
            state.vector_table = value & 0xFFFF_FF80
        elif offset == _AIRCR:
            self._store_reset_control(value)
        elif offset == _SHCSR:
            enabled = {number for bit, number in _FAULT_ENABLES.items() if value >> bit & 1}
            state.faults_enabled = enabled
        elif offset == _MMFAR:
            state.mem_manage_address = value
        elif offset == _BFAR:
            state.bus_fault_address = value
        elif offset == _FPCCR:
            state.fp_context_control = value
        elif offset == _CCR:
            self._store_configuration(value)
        else:
            self.values[offset] = value
            if offset == _CPACR:
                self.on_fpu_access(value >> 20 & 0xF == 0xF or value >> 20 & 0xF == 0x5)

    def _set_pending(self, value: int) -> None:
        pending = self._exceptions.state.pending
        for set_bit, clear_bit, number in ((31, None, NMI), (28, 27, PEND_SV), (26, 25, SYS_TICK)):
            if value >> set_bit & 1:
                pending.add(number)
            if clear_bit is not None and value >> clear_bit & 1:
                pending.discard(number)
        self.board.rest()

    def _store_reset_control(self, value: int) -> None:
        if value >> 16 != _AIRCR_KEY:
            self.board.warn("SCB_AIRCR is written without its key 0x05FA: the write has no effect")
            return
        self._exceptions.state.priority_group = value >> 8 & 7
        if value & _SYSRESETREQ:
            self.on_reset_request()

    def _store_configuration(self, value: int) -> None:
        turned_on = value & ~self.values[_CCR]
        self.values[_CCR] = value
        if turned_on & _CCR_DC and self._lines_invalidated < _DATA_CACHE_LINES:
            self.board.warn("the data cache is turned on before all of it was invalidated (DCISW)")
        if turned_on & _CCR_IC and not self._instruction_cache_invalidated:
            self.board.warn("the instruction cache is turned on before it was invalidated (ICIALLU)")
        if turned_on & _CCR_UNALIGN_TRP:
            self.board.warn("CCR.UNALIGN_TRP is set, which the virtual board does not model")
        if turned_on & _CCR_DIV_0_TRP:
            self.on_trap_divisions()

    def _maintain_caches(self, offset: int) -> None:
        if offset in (_DCISW, _DCCISW):
            self._lines_invalidated += 1
        elif offset == _ICIALLU:
            self._instruction_cache_invalidated = True
