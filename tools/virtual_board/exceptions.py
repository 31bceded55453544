"""Exceptions of the Cortex-M7: priorities, entry and return. ARMv7-M ARM (DDI 0403E) B1.5.

They are taken at the boundaries of blocks, where the emulator can be stopped. Floating-point registers are
pushed at entry instead of lazily, which firmware cannot tell except by reading the reserved space.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from unicorn import arm_const as arm

from tools.virtual_board import faults
from tools.virtual_board.cpu import GENERAL, LR, PC, SP, Cpu
from tools.virtual_board.memory import Memory
from tools.virtual_board.native.layout import MPU_WRITE

NMI, HARD_FAULT, MEM_MANAGE, BUS_FAULT, USAGE_FAULT = 2, 3, 4, 5, 6
SV_CALL, DEBUG_MONITOR, PEND_SV, SYS_TICK, FIRST_INTERRUPT = 11, 12, 14, 15, 16
INTERRUPTS = 98  # RM0385 table 46
_NAMES = {
    NMI: "NMI",
    HARD_FAULT: "HardFault",
    MEM_MANAGE: "MemManage",
    BUS_FAULT: "BusFault",
    USAGE_FAULT: "UsageFault",
    SV_CALL: "SVCall",
    DEBUG_MONITOR: "DebugMonitor",
    PEND_SV: "PendSV",
    SYS_TICK: "SysTick",
}
_FIXED_PRIORITY = {NMI: -2, HARD_FAULT: -1}
_THREAD_PRIORITY = 256

_FPCA = 4
_SPSEL = 2
_BASIC_WORDS = 8
_EXTENDED_WORDS = 26
_FRAME_ALIGNED = 1 << 9
_FPCCR_ASPEN = 1 << 31
_S_REGISTERS = [arm.UC_ARM_REG_S0 + number for number in range(16)]
_RETURNS_TO_HANDLER = 0xFFFF_FFF1
_RETURNS_TO_MSP = 0xFFFF_FFF9
_RETURNS_TO_PSP = 0xFFFF_FFFD
_NO_FPU_FRAME = 0x10


def exception_name(number: int) -> str:
    """Return the name of an exception."""
    return _NAMES.get(number, f"interrupt {number - FIRST_INTERRUPT}")


class LockupError(Exception):
    """The core met a fault that it cannot take."""


class ReturnFaultError(Exception):
    """An exception return found nothing to return to."""


@dataclass
class ExceptionState:
    """What the system control block holds of exceptions."""

    vector_table: int = 0
    priorities: dict[int, int] = field(default_factory=dict)
    priority_group: int = 0
    faults_enabled: set[int] = field(default_factory=set)
    interrupts_enabled: set[int] = field(default_factory=set)
    pending: set[int] = field(default_factory=set)
    active: list[int] = field(default_factory=list)
    fault_status: int = 0
    hard_fault_status: int = 0
    mem_manage_address: int = 0
    bus_fault_address: int = 0
    fp_context_control: int = 0xC000_0000


class Exceptions:
    """Decides which exception is taken, enters and leaves it."""

    def __init__(self, cpu: Cpu, memory: Memory) -> None:
        self._cpu = cpu
        self._memory = memory
        self.state = ExceptionState()

    def reset(self) -> None:
        """Return to the state after reset."""
        self.state = ExceptionState()

    def _priority(self, exception: int) -> int:
        """Group priority of an exception, lower is more urgent."""
        if exception in _FIXED_PRIORITY:
            return _FIXED_PRIORITY[exception]
        subpriority_bits = self.state.priority_group + 1
        return self.state.priorities.get(exception, 0) >> subpriority_bits << subpriority_bits

    def _execution_priority(self) -> int:
        priority = min([_THREAD_PRIORITY, *(self._priority(number) for number in self.state.active)])
        base = self._cpu.read(arm.UC_ARM_REG_BASEPRI)
        if base:
            subpriority_bits = self.state.priority_group + 1
            priority = min(priority, base >> subpriority_bits << subpriority_bits)
        if self._cpu.read(arm.UC_ARM_REG_PRIMASK) & 1:
            priority = min(priority, 0)
        if self._cpu.read(arm.UC_ARM_REG_FAULTMASK) & 1:
            priority = min(priority, -1)
        return priority

    def _candidates(self) -> list[int]:
        enabled = self.state.interrupts_enabled
        return sorted(
            (number for number in self.state.pending if number < FIRST_INTERRUPT or number in enabled),
            key=lambda number: (self._priority(number), number),
        )

    @property
    def waiting(self) -> bool:
        """Whether an enabled exception is pending, be it masked or not."""
        return bool(self.state.pending) and bool(self._candidates())

    def deliver(self) -> None:
        """Enter the most urgent pending exception if it may interrupt what runs."""
        candidates = self._candidates() if self.state.pending else []
        if candidates and self._priority(candidates[0]) < self._execution_priority():
            self.state.pending.discard(candidates[0])
            self._enter(candidates[0])

    def call_supervisor(self) -> None:
        """Take SVC; where its priority does not suffice it escalates to HardFault."""
        if self._priority(SV_CALL) < self._execution_priority():
            self._enter(SV_CALL)
        else:
            self._escalate()

    def take_fault(self, status: int, address: int | None = None) -> str:
        """Record a fault in CFSR and enter its handler; return the handler's name.

        Args:
            status: bits of CFSR, or DEBUGEVT of HFSR.
            address: what MMFAR or BFAR gets.

        Raises:
            LockupError: the core was handling a HardFault already.
        """
        if status == faults.DEBUGEVT:
            self.state.hard_fault_status |= faults.DEBUGEVT
            return self._enter_hard_fault()
        self.state.fault_status |= status
        exception = USAGE_FAULT if status >> 16 else BUS_FAULT if status >> 8 & 0xFF else MEM_MANAGE
        if address is not None and exception == BUS_FAULT:
            self.state.bus_fault_address = address
            self.state.fault_status |= faults.BFARVALID
        elif address is not None and exception == MEM_MANAGE:
            self.state.mem_manage_address = address
            self.state.fault_status |= faults.MMARVALID
        urgent = self._priority(exception) < self._execution_priority()
        if exception in self.state.faults_enabled and urgent:
            return exception_name(self._enter(exception))
        return self._escalate()

    def _escalate(self) -> str:
        self.state.hard_fault_status |= faults.FORCED
        return self._enter_hard_fault()

    def _enter_hard_fault(self) -> str:
        if self._execution_priority() <= _FIXED_PRIORITY[HARD_FAULT]:
            raise LockupError
        return exception_name(self._enter(HARD_FAULT))

    def _enter(self, exception: int) -> int:
        """Push a frame and go to the handler; return the exception that was entered in the end."""
        exc_return, stacking_fault = self._push_frame()
        if stacking_fault:
            exception = self._derived_fault(exception, stacking_fault)
        vector = self._memory.read_word(self.state.vector_table + 4 * exception)
        if vector is None:
            self.state.hard_fault_status |= faults.VECTTBL
            exception = self._derived_fault(exception, 0)
            vector = self._memory.read_word(self.state.vector_table + 4 * exception)
        if vector is None or not vector & 1:
            raise LockupError
        self.state.active.append(exception)
        self._cpu.exception = exception
        self._cpu.write(LR, exc_return)
        self._cpu.jump(vector)
        return exception

    def _derived_fault(self, exception: int, status: int) -> int:
        """Turn a fault in the entry of an exception into the HardFault that is entered instead."""
        self.state.fault_status |= status
        if exception <= HARD_FAULT or self._execution_priority() <= _FIXED_PRIORITY[HARD_FAULT]:
            raise LockupError
        self.state.hard_fault_status |= faults.FORCED
        if exception not in (MEM_MANAGE, BUS_FAULT, USAGE_FAULT):
            self.state.pending.add(exception)
        return HARD_FAULT

    def _push_frame(self) -> tuple[int, int]:
        """Push the state; return EXC_RETURN, and the bits of CFSR where the stack cannot take it."""
        cpu = self._cpu
        control = cpu.read(arm.UC_ARM_REG_CONTROL)
        in_thread = cpu.exception == 0
        on_process_stack = in_thread and bool(control & _SPSEL)
        with_fpu = bool(control & _FPCA and self.state.fp_context_control & _FPCCR_ASPEN)
        stack = cpu.read(SP)
        frame = (stack - 4 * (_EXTENDED_WORDS if with_fpu else _BASIC_WORDS)) & 0xFFFF_FFF8
        it_state = cpu.it_state
        xpsr = cpu.read(arm.UC_ARM_REG_XPSR) | 1 << 24 | (it_state & 3) << 25 | (it_state >> 2) << 10
        words = [cpu.read(register) for register in (*GENERAL[:4], GENERAL[12], LR, PC)]
        words.append(xpsr | (_FRAME_ALIGNED if stack & 4 else 0))
        if with_fpu:
            words += [cpu.read(register) for register in _S_REGISTERS]
            words += [cpu.read(arm.UC_ARM_REG_FPSCR), 0]
        status = self._stacking_fault(frame, len(words))
        if not status:
            self._memory.write(frame, struct.pack(f"<{len(words)}I", *words))
        cpu.write(SP, frame)
        if control & (_FPCA | _SPSEL):
            cpu.write(arm.UC_ARM_REG_CONTROL, control & ~(_FPCA | _SPSEL))
        if it_state:
            cpu.it_state = 0
        base = _RETURNS_TO_HANDLER
        if in_thread:
            base = _RETURNS_TO_PSP if on_process_stack else _RETURNS_TO_MSP
        return base & ~_NO_FPU_FRAME if with_fpu else base, status

    def _stacking_fault(self, frame: int, words: int) -> int:
        ends = (frame, frame + 4 * (words - 1))
        if any(self._memory.is_forbidden(end, MPU_WRITE) for end in ends):
            return faults.MSTKERR
        return 0 if all(self._memory.is_writable(end) for end in ends) else faults.STKERR

    def leave(self, exc_return: int) -> None:
        """Return from a handler.

        Raises:
            ReturnFaultError: EXC_RETURN or the frame is wrong.
        """
        cpu = self._cpu
        nested = len(self.state.active) > 1
        kind = exc_return | _NO_FPU_FRAME
        valid = kind == _RETURNS_TO_HANDLER if nested else kind in (_RETURNS_TO_MSP, _RETURNS_TO_PSP)
        if not self.state.active or not valid:
            raise ReturnFaultError
        if self.state.active.pop() != NMI:
            cpu.write(arm.UC_ARM_REG_FAULTMASK, 0)
        cpu.exception = self.state.active[-1] if nested else 0
        control = cpu.read(arm.UC_ARM_REG_CONTROL) & ~(_FPCA | _SPSEL)
        with_fpu = not exc_return & _NO_FPU_FRAME
        on_process_stack = kind == _RETURNS_TO_PSP
        control |= (_FPCA if with_fpu else 0) | (_SPSEL if on_process_stack else 0)
        cpu.write(arm.UC_ARM_REG_CONTROL, control)
        self._pop_frame(_EXTENDED_WORDS if with_fpu else _BASIC_WORDS)

    def _pop_frame(self, count: int) -> None:
        cpu = self._cpu
        frame = cpu.read(SP)
        data = self._memory.read(frame, 4 * count)
        if data is None:
            raise ReturnFaultError
        words = struct.unpack(f"<{count}I", data)
        for register, word in zip((*GENERAL[:4], GENERAL[12], LR), words, strict=False):
            cpu.write(register, word)
        if count == _EXTENDED_WORDS:
            for register, word in zip(_S_REGISTERS, words[8:24], strict=True):
                cpu.write(register, word)
            cpu.write(arm.UC_ARM_REG_FPSCR, words[24])
        pc, xpsr = words[6:8]
        cpu.write(SP, frame + 4 * count + (4 if xpsr & _FRAME_ALIGNED else 0))
        cpu.write(arm.UC_ARM_REG_XPSR_NZCVQG, xpsr)
        it_state = (xpsr >> 25 & 3) | (xpsr >> 10 & 0x3F) << 2
        if it_state:
            cpu.it_state = it_state
        cpu.jump(pc)
