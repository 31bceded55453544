"""The Cortex-M7 core: Unicorn, with what it leaves out made good.

Unicorn has the instructions, the banked stack pointers and the special registers. It does not count, does
not take exceptions, does not let IPSR be written, always grants access to the FPU, divides by zero in
silence and never refuses an unaligned LDRD. The native callbacks count and check; `exceptions` enters and
leaves handlers between two runs of the emulator.

The CPU model is set without UC_MODE_MCLASS: that mode silently replaces it by a Cortex-M33.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from unicorn import UC_ARCH_ARM, UC_MODE_THUMB, Uc, UcError
from unicorn import arm_const as arm
from unicorn import unicorn_const as const
from unicorn.unicorn_py3.unicorn import uclib

from tools.virtual_board.hidden import HiddenState
from tools.virtual_board.memory import Memory
from tools.virtual_board.native import layout as at
from tools.virtual_board.native.library import READ_CALLBACK, load, uart_readers

GENERAL = [arm.UC_ARM_REG_R0 + number for number in range(13)]
SP, LR, PC = arm.UC_ARM_REG_SP, arm.UC_ARM_REG_LR, arm.UC_ARM_REG_PC
_NOWHERE = 0xFFFF_FFFE  # an address at which execution never arrives
_INVALID = (
    const.UC_HOOK_MEM_READ_UNMAPPED
    | const.UC_HOOK_MEM_WRITE_UNMAPPED
    | const.UC_HOOK_MEM_FETCH_UNMAPPED
    | const.UC_HOOK_MEM_READ_PROT
    | const.UC_HOOK_MEM_WRITE_PROT
    | const.UC_HOOK_MEM_FETCH_PROT
)
_WRITE_CALLBACK = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint, ctypes.c_uint64, ctypes.c_void_p
)
_HINTS_16 = (0xBF10, 0xBF20)  # YIELD, WFE: Unicorn reports them as invalid instructions
_HINTS_32 = (0x8001_F3AF, 0x8002_F3AF)


class Event(Enum):
    """Why a run of the emulator ended."""

    LIMIT = auto()  # the instruction limit, or a request to stop
    WAIT = auto()  # WFI
    CHECK = auto()  # a check of the native callback: number is CHECK_*
    ACCESS = auto()  # an access that memory and registers did not take: number is UC_MEM_*
    INTERRUPT = auto()  # number is QEMU's EXCP_*
    UNDEFINED = auto()  # an undefined instruction


@dataclass(frozen=True)
class Stop:
    """The end of a run: the event, its number and, for an access, address and size in bytes."""

    event: Event
    number: int = 0
    address: int = 0
    size: int = 0


class Cpu:
    """One core that executes from `memory`."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.words = memory.words
        self.unicorn = Uc(UC_ARCH_ARM, UC_MODE_THUMB, arm.UC_CPU_ARM_CORTEX_M7)
        memory.map_into(self.unicorn)
        self._context = self.unicorn.context_save()
        self._initial = self.unicorn.context_save()
        self.words[at.CONTEXT] = ctypes.cast(self._context.context, ctypes.c_void_p).value
        self.words[at.REGISTER_IDS : at.REGISTER_IDS + at.REGISTERS] = [*GENERAL, SP, LR]
        self._interrupt: int | None = None
        self._error: Exception | None = None
        self._translation_is_stale = False
        self._addresses_are_stale = False
        self._callbacks: list[Any] = []
        self._hidden = HiddenState(self.unicorn)
        callbacks = load()
        self._add_native_hook(const.UC_HOOK_BLOCK, callbacks.on_block)
        for begin, end in (*memory.outside_ram(), (at.SHADOW, 2 * at.SHADOW - 1)):
            # A hook that includes RAM would make all stores slow.
            self._add_native_hook(_INVALID, callbacks.on_refused_access, begin, end)
        self.unicorn.ctl_set_tlb_mode(const.UC_TLB_VIRTUAL)
        self._add_native_hook(const.UC_HOOK_TLB_FILL, callbacks.on_translation)
        self._map_natively(at.SHADOW, at.SHADOW, callbacks.on_shadow_read, callbacks.on_shadow_write)
        self.unicorn.hook_add(const.UC_HOOK_INTR, self._on_interrupt)
        self.unicorn.hook_add(const.UC_HOOK_INSN_INVALID, self._on_invalid_instruction)

    def _add_native_hook(self, kind: int, callback: int, begin: int = 1, end: int = 0) -> None:
        self.add_native_hook(kind, callback, self.memory.address, begin, end)

    def add_native_hook(self, kind: int, callback: int, data: int, begin: int = 1, end: int = 0) -> int:
        """Add a callback by its host address, with `data` as its last argument; return the hook's number."""
        handle = ctypes.c_size_t()
        status = uclib.uc_hook_add(
            self.unicorn._uch,  # the bindings offer no other way to pass a callback that is not Python
            ctypes.byref(handle),
            kind,
            ctypes.c_void_p(callback),
            ctypes.c_void_p(data),
            ctypes.c_uint64(begin),
            ctypes.c_uint64(end),
        )
        if status != const.UC_ERR_OK:
            raise UcError(status)
        return handle.value

    def remove_native_hook(self, hook: int) -> None:
        """Remove a hook that `add_native_hook` added."""
        status = uclib.uc_hook_del(self.unicorn._uch, ctypes.c_size_t(hook))
        if status != const.UC_ERR_OK:
            raise UcError(status)

    def translate_anew(self) -> None:
        """Make the next run translate all code anew, which hooks of memory accesses need to take effect."""
        self._translation_is_stale = True

    def _on_interrupt(self, unicorn: Uc, number: int, _data: Any) -> None:
        self._interrupt = number
        unicorn.emu_stop()

    def _on_invalid_instruction(self, _unicorn: Uc, _data: Any) -> bool:
        address = self.read(PC)
        block_end = int(self.words[at.BLOCK_ADDRESS]) + int(self.words[at.BLOCK_RECORD] & at.RECORD_SIZE_MASK)
        if address != block_end:
            return False
        before = self.memory.read(address - 4, 4)
        if before is None:
            return False
        word = int.from_bytes(before, "little")
        return word >> 16 in _HINTS_16 or word in _HINTS_32

    # Registers.

    def read(self, register: int) -> int:
        """Return a register by its Unicorn number."""
        value: int = self.unicorn.reg_read(register)
        return value & 0xFFFF_FFFF

    def write(self, register: int, value: int) -> None:
        """Write a register by its Unicorn number."""
        self.unicorn.reg_write(register, value)

    @property
    def pc(self) -> int:
        """Address of the instruction that runs now, or will run next."""
        return self.read(PC)

    def jump(self, address: int) -> None:
        """Go on at `address`, in Thumb state whatever its lowest bit."""
        self.write(PC, address | 1)

    @property
    def exception(self) -> int:
        """The exception number in IPSR; 0 in thread mode."""
        return self.read(arm.UC_ARM_REG_IPSR) & 0x1FF

    @exception.setter
    def exception(self, number: int) -> None:
        self._hidden.write_exception(number)

    @property
    def it_state(self) -> int:
        """ITSTATE, 8 bits."""
        return self._hidden.read_it_state()

    @it_state.setter
    def it_state(self, state: int) -> None:
        self._hidden.write_it_state(state)

    # Traps that cost time, and are set only while they are on.

    def trap_divisions(self, addresses: list[int]) -> None:
        """Stop at divisions by zero among the instructions at `addresses`, from the next block on."""
        for address in addresses:
            self._add_native_hook(const.UC_HOOK_CODE, load().on_division, address, address)
        self._translation_is_stale = True
        self.stop()

    def map_registers(
        self,
        address: int,
        size: int,
        read: Callable[[int, int], int],
        write: Callable[[int, int, int], None],
        quick_uart: bool,
    ) -> None:
        """Map registers, with callbacks read(address, size) and write(address, size, value).

        Unicorn's own wrapping of such callbacks would cost as much again as the rest of an access.

        Args:
            address: first address, on a page of Unicorn's.
            size: bytes, pages of Unicorn's.
            read: returns what the core reads.
            write: takes what the core writes.
            quick_uart: whether the native callback of the UART stands before `read`.
        """

        def guarded_read(_unicorn: int, offset: int, size: int, _data: int) -> int:
            try:
                return read(address + offset, size)
            except Exception as error:
                self._note_error(error)
                return 0

        def guarded_write(_unicorn: int, offset: int, size: int, value: int, _data: int) -> None:
            try:
                write(address + offset, size, value)
            except Exception as error:
                self._note_error(error)

        callbacks = READ_CALLBACK(guarded_read), _WRITE_CALLBACK(guarded_write)
        self._callbacks += callbacks
        on_read, on_write = (ctypes.cast(callback, ctypes.c_void_p).value or 0 for callback in callbacks)
        if quick_uart:
            self._read_uart = guarded_read
            uart_readers[self.memory.address] = self
            on_read = load().on_uart_read
        self._map_natively(address, size, on_read, on_write)

    def read_uart(self, offset: int, size: int) -> int:
        """Answer a read of the UART that the native callback left to Python."""
        return self._read_uart(0, offset, size, 0)

    def _map_natively(self, address: int, size: int, read: int, write: int) -> None:
        """Map registers, with host addresses of C callbacks; every access is asked for first."""
        shared = ctypes.c_void_p(self.memory.address)
        status = uclib.uc_mmio_map(
            self.unicorn._uch,
            ctypes.c_uint64(address),
            ctypes.c_uint64(size),
            ctypes.c_void_p(read),
            shared,
            ctypes.c_void_p(write),
            shared,
        )
        if status != const.UC_ERR_OK:
            raise UcError(status)
        self.unicorn.mem_protect(address, size, const.UC_PROT_NONE)

    def _note_error(self, error: Exception) -> None:
        """Keep an error of our own that came up inside the emulator, to be raised outside."""
        self._error = self._error or error
        self.stop()

    def _raise_noted_error(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def protect(self, address: int, size: int, allowed: int) -> None:
        """Allow kinds of access to whole pages, UC_PROT_* bits; have the callback decide on the others."""
        self.unicorn.mem_protect(address, size, allowed)
        self._add_native_hook(_INVALID, load().on_refused_access, address, address + size - 1)

    def forget_translations(self) -> None:
        """Ask for the translation of every address anew, from the next block on."""
        self._addresses_are_stale = True
        self.stop()

    # Running.

    def reset(self, stack: int, start: int) -> None:
        """Bring the core into its state after reset, its memories unchanged."""
        self.unicorn.context_restore(self._initial)
        self.write(SP, stack & ~3)
        self.write(LR, 0xFFFF_FFFF)
        self.words[at.BLOCK_RECORD] = 0
        self.words[at.FPU_OFF] = 1
        self.write(PC, start)

    def stop(self) -> None:
        """Make the emulator stop before the next block."""
        self.words[at.LIMIT] = 0

    @property
    def total(self) -> int:
        """Instructions executed, with all of the present block."""
        return int(self.words[at.TOTAL])

    def instructions_before(self, pc: int) -> int:
        """Return the instructions executed before the one at `pc`, which runs now or stopped the run."""
        start = int(self.words[at.BLOCK_ADDRESS])
        end = start + int(self.words[at.BLOCK_RECORD] & at.RECORD_SIZE_MASK)
        return self.total - (self.memory.count_instructions(pc, end) if start <= pc < end else 0)

    def _settle(self) -> None:
        """Make the total exact after a stop, and leave no block as running."""
        self.words[at.TOTAL] = self.instructions_before(self.pc)
        self._leave_block()

    def _stopped_before_block(self) -> bool:
        """Tell the stops that the block callback makes from that of a division."""
        division = int(self.words[at.STOP_CHECK_KIND]) == at.CHECK_DIVISION
        return int(self.words[at.STOP_REASON]) == at.STOP_LIMIT or not division

    def _leave_block(self) -> None:
        self.words[at.BLOCK_RECORD] &= ~at.RECORD_SIZE_MASK

    def run(self, limit: int) -> Stop:
        """Execute until the total reaches `limit` or something happens."""
        self.words[at.LIMIT] = limit
        return self._run(0)

    def replay(self, address: int) -> Stop:
        """Execute the present block, which a check stopped, up to the instruction at `address`."""
        count = self.memory.count_instructions(self.pc, address)
        if not count:
            return Stop(Event.LIMIT)
        self.words[at.CHECKS_OFF] = 1
        self._translation_is_stale = True  # Unicorn counts only in code that it translates from now on
        try:
            self.words[at.LIMIT] = 1 << 62
            return self._run(count)
        finally:
            self.words[at.CHECKS_OFF] = 0

    def _run(self, count: int) -> Stop:
        self.words[at.STOP_REASON] = 0
        self.words[at.ACCESS_KIND] = 0
        self._interrupt = None
        if self._translation_is_stale:
            self._translation_is_stale = False
            self.unicorn.ctl_flush_tb()
        if self._addresses_are_stale:
            self._addresses_are_stale = False
            self.unicorn.ctl(const.UC_CTL_TLB_FLUSH, const.UC_CTL_IO_WRITE)
        thumb = 1
        try:
            self.unicorn.emu_start(self.pc | thumb, _NOWHERE, count=count)
        except UcError as error:
            self._raise_noted_error()
            stop = self._stopped_by_error(error)
            self._settle()
            return stop
        self._raise_noted_error()
        reason = int(self.words[at.STOP_REASON])
        if self._interrupt is None and reason:
            if self._stopped_before_block():
                self._leave_block()
            else:
                self._settle()
            if reason == at.STOP_CHECK:
                return Stop(
                    Event.CHECK, int(self.words[at.STOP_CHECK_KIND]), int(self.words[at.STOP_ADDRESS])
                )
            return Stop(Event.LIMIT)
        self._settle()
        if self._interrupt is not None:
            return Stop(Event.INTERRUPT, self._interrupt)
        return Stop(Event.LIMIT if count else Event.WAIT)

    def _stopped_by_error(self, error: UcError) -> Stop:
        kind = int(self.words[at.ACCESS_KIND])
        if kind:
            self.unicorn.context_restore(self._context)
            address, size = int(self.words[at.ACCESS_ADDRESS]), int(self.words[at.ACCESS_SIZE])
            return Stop(Event.ACCESS, kind, address, size)
        if error.errno == const.UC_ERR_INSN_INVALID:
            return Stop(Event.UNDEFINED)
        raise error
