"""From an event of the emulator to the fault that it is on the chip."""

from __future__ import annotations

from dataclasses import dataclass

from unicorn import arm_const as arm
from unicorn import unicorn_const as const

from tools.virtual_board import faults
from tools.virtual_board.chip import Chip
from tools.virtual_board.cpu import GENERAL, LR, PC, SP, Event, Stop
from tools.virtual_board.faults import FaultKind
from tools.virtual_board.native import layout as at

_THUMB = 1 << 24
_NULL_BYTES = 0x100
_BELOW_STACK = 0x1000
_WRITES = (const.UC_MEM_WRITE_UNMAPPED, const.UC_MEM_WRITE_PROT)
_FETCHES = (const.UC_MEM_FETCH_UNMAPPED, const.UC_MEM_FETCH_PROT)
# ARMv7-M ARM B3.1: peripherals, external devices and system space are never executable.
_NEVER_EXECUTABLE = (range(0x4000_0000, 0x6000_0000), range(0xA000_0000, 0x1_0000_0000))
_REGISTER_SPACE = (range(0x4000_0000, 0x6000_0000), range(0xE000_0000, 0x1_0000_0000))

# Exceptions of QEMU's ARM target.
SUPERVISOR_CALL, PREFETCH_ABORT, DATA_ABORT, BREAKPOINT, EXCEPTION_RETURN = 2, 3, 4, 7, 8
_EXCEPTIONS = {
    DATA_ABORT: (FaultKind.UNALIGNED, faults.UNALIGNED),  # of exclusive accesses
    BREAKPOINT: (FaultKind.BREAKPOINT, faults.DEBUGEVT),
    17: (FaultKind.COPROCESSOR, faults.NOCP),
    18: (FaultKind.STATE, faults.INVSTATE),
}
_CHECKS = {
    at.CHECK_ALIGNMENT: (FaultKind.UNALIGNED, faults.UNALIGNED),
    at.CHECK_FPU_OFF: (FaultKind.FPU_OFF, faults.NOCP),
    at.CHECK_DOUBLE: (FaultKind.DOUBLE, faults.UNDEFINSTR),
    at.CHECK_UNDEFINED: (FaultKind.UNDEFINED, faults.UNDEFINSTR),
    at.CHECK_DIVISION: (FaultKind.DIVISION, faults.DIVBYZERO),
}


@dataclass(frozen=True)
class Diagnosis:
    """A fault as the chip sees it: status are the bits of CFSR, address what MMFAR or BFAR gets."""

    kind: FaultKind
    status: int
    detail: str = ""
    address: int | None = None


def diagnose(chip: Chip, stop: Stop) -> Diagnosis:
    """Say which fault ended a run of the core."""
    if stop.event is Event.ACCESS:
        return _access(chip, stop)
    if stop.event is Event.UNDEFINED:
        if not chip.cpu.read(arm.UC_ARM_REG_XPSR) & _THUMB:
            return Diagnosis(FaultKind.STATE, faults.INVSTATE)
        return Diagnosis(FaultKind.UNDEFINED, faults.UNDEFINSTR, _instruction(chip))
    if stop.event is Event.INTERRUPT and stop.number == PREFETCH_ABORT:
        return _fetch(chip, chip.cpu.pc)
    kind, status = (_CHECKS if stop.event is Event.CHECK else _EXCEPTIONS)[stop.number]
    return Diagnosis(kind, status, _instruction(chip))


def is_aligned(chip: Chip, stop: Stop) -> bool:
    """Tell whether an alignment check was mistaken, now that the core stands before the instruction.

    Checks look at the stack as it was before the block; the block may have changed it through a pointer.
    """
    if stop.number != at.CHECK_ALIGNMENT:
        return False
    code = int.from_bytes(chip.memory.read(stop.address, 2) or b"", "little")
    base = code & 15 if code >= 0xE800 else code >> 8 & 7
    return chip.cpu.read((*GENERAL, SP, LR, PC)[base]) % 4 == 0


def _instruction(chip: Chip) -> str:
    data = chip.memory.read(chip.cpu.pc, chip.memory.instruction_bytes(chip.cpu.pc))
    if data is None:
        return ""
    codes = (int.from_bytes(data[place : place + 2], "little") for place in range(0, len(data), 2))
    return "instruction " + " ".join(f"{code:04x}" for code in codes)


def _access(chip: Chip, stop: Stop) -> Diagnosis:
    address = stop.address
    if stop.number in _FETCHES:
        return _fetch(chip, address)
    is_write = stop.number in _WRITES
    needed = at.MPU_WRITE if is_write else at.MPU_READ
    forbidden = chip.memory.is_forbidden(address, needed)
    status = faults.DACCVIOL if forbidden else faults.PRECISERR
    detail = f"{stop.size} bytes at 0x{address:08x}"
    lowest = chip.board.ram[0].origin
    if lowest - _BELOW_STACK <= address < lowest and abs(chip.cpu.read(SP) - address) < 2 * _BELOW_STACK:
        return Diagnosis(FaultKind.STACK_OVERFLOW, status, detail, address)
    if forbidden:
        detail += ", through a null pointer" if address < _NULL_BYTES else ""
        return Diagnosis(FaultKind.PROTECTED, status, detail, address)
    if is_write and chip.memory.offset_of(address, 1) is not None:
        return Diagnosis(FaultKind.FLASH_WRITE, status, detail, address)
    if any(address in space for space in _REGISTER_SPACE):
        return Diagnosis(FaultKind.NOT_MODELLED, 0, detail, address)
    return Diagnosis(FaultKind.WRITE if is_write else FaultKind.READ, status, detail, address)


def _fetch(chip: Chip, address: int) -> Diagnosis:
    detail = f"at 0x{address:08x}"
    if chip.memory.is_forbidden(address, at.MPU_EXECUTE):
        detail += ", through a null pointer" if address < _NULL_BYTES else ""
        return Diagnosis(FaultKind.PROTECTED, faults.IACCVIOL, detail)
    never = any(address in space for space in _NEVER_EXECUTABLE)
    return Diagnosis(FaultKind.EXECUTE, faults.IACCVIOL if never else faults.IBUSERR, detail)
