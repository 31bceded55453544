"""State of the core that Unicorn's interface does not let be written: IPSR and ITSTATE."""

from __future__ import annotations

import ctypes
import struct

from unicorn import Uc
from unicorn import arm_const as arm

_HEADER_BYTES = struct.calcsize("Niii?PP")  # of a uc_context; the core's state follows
_GENERAL_REGISTERS_BYTES = 16 * 4
_WORD = 4


class HiddenState:
    """Reaches into saved contexts, where fields are found by their neighbours.

    In QEMU, `v7m.exception` stands right before `v7m.primask`, and `condexec_bits` after `thumb`.
    """

    def __init__(self, unicorn: Uc) -> None:
        self._unicorn = unicorn
        registers = self._offset_changed_by(arm.UC_ARM_REG_R0, 0x5A5A_5A5A, _HEADER_BYTES)
        self._exception = self._offset_changed_by(arm.UC_ARM_REG_PRIMASK, 1, _HEADER_BYTES) - _WORD
        thumb = self._offset_changed_by(arm.UC_ARM_REG_PC, 1, registers + _GENERAL_REGISTERS_BYTES)
        self._it_state = thumb + _WORD
        probe = 0x155
        self.write_exception(probe)
        if unicorn.reg_read(arm.UC_ARM_REG_IPSR) & 0x1FF != probe:
            raise RuntimeError("this version of unicorn keeps IPSR elsewhere; install the pinned one")
        self.write_exception(0)

    def _offset_changed_by(self, register: int, value: int, start: int) -> int:
        """Return the offset of the first byte from `start` on that writing a register changes from 0."""
        self._unicorn.reg_write(register, 0)
        before = bytes(self._unicorn.context_save())
        self._unicorn.reg_write(register, value)
        after = bytes(self._unicorn.context_save())
        self._unicorn.reg_write(register, 0)
        return next(place for place in range(start, len(before)) if before[place] != after[place])

    def _write(self, offset: int, value: int) -> None:
        context = self._unicorn.context_save()
        pointer = ctypes.cast(context.context, ctypes.c_void_p).value
        assert pointer is not None
        ctypes.memmove(pointer + offset, struct.pack("<I", value), _WORD)
        self._unicorn.context_restore(context)
        # Writing the flags makes Unicorn derive its translation flags (handler mode, IT state) anew.
        flags = self._unicorn.reg_read(arm.UC_ARM_REG_APSR) & 0xF000_0000
        self._unicorn.reg_write(arm.UC_ARM_REG_APSR_NZCV, flags)

    def write_exception(self, number: int) -> None:
        """Write IPSR; other than 0 it puts the core into handler mode."""
        self._write(self._exception, number)

    def read_it_state(self) -> int:
        """Return ITSTATE, 8 bits."""
        context = bytes(self._unicorn.context_save())
        return int(struct.unpack_from("<I", context, self._it_state)[0]) & 0xFF

    def write_it_state(self, state: int) -> None:
        """Write ITSTATE."""
        self._write(self._it_state, state)
