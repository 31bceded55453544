"""What the virtual board reports when firmware does what the chip does not allow."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FaultKind(StrEnum):
    """What went wrong, in words that go into a report."""

    READ = "read outside memory"
    WRITE = "write outside memory"
    EXECUTE = "execution outside memory"
    FLASH_WRITE = "write to flash"
    PROTECTED = "access that the memory protection unit forbids"
    STACK_OVERFLOW = "stack overflow"
    UNDEFINED = "undefined instruction"
    DOUBLE = "double-precision instruction, which this chip's FPU lacks"
    FPU_OFF = "floating-point instruction while the FPU is off"
    COPROCESSOR = "access to a coprocessor that the chip lacks"
    UNALIGNED = "unaligned access by an instruction that needs alignment"
    DIVISION = "division by zero"
    STATE = "branch to an address without Thumb bit"
    RETURN = "return from an exception with a wrong EXC_RETURN or frame"
    BREAKPOINT = "BKPT without a debugger"
    NOT_MODELLED = "register that the virtual board does not model"
    DEADLINE = "missed deadline"


# Configurable fault status register: ARMv7-M ARM B3.2.15.
IACCVIOL = 1 << 0
DACCVIOL = 1 << 1
MSTKERR = 1 << 4
MMARVALID = 1 << 7
IBUSERR = 1 << 8
PRECISERR = 1 << 9
STKERR = 1 << 12
BFARVALID = 1 << 15
UNDEFINSTR = 1 << 16
INVSTATE = 1 << 17
INVPC = 1 << 18
NOCP = 1 << 19
UNALIGNED = 1 << 24
DIVBYZERO = 1 << 25
# HardFault status register: B3.2.16.
VECTTBL = 1 << 1
FORCED = 1 << 30
DEBUGEVT = 1 << 31


@dataclass(frozen=True)
class FaultReport:
    """A fault: where, what, and whether the firmware could take it.

    pc and, where there is one, address are bytes; registers maps r0 ... pc, xpsr and the fault status
    registers to their values; instructions counts from power-up; handler names the exception that was
    entered, or is None where the core stopped.
    """

    kind: FaultKind
    detail: str
    pc: int
    function: str
    caller: str
    address: int | None
    registers: dict[str, int]
    instructions: int
    handler: str | None

    def __str__(self) -> str:
        lines = [
            f"fault: {self.kind.value}: {self.detail}" if self.detail else f"fault: {self.kind.value}",
            f"  at       {self.function}",
            f"  called   from {self.caller}",
        ]
        if self.address is not None:
            lines.append(f"  address  0x{self.address:08x}")
        lines.append(f"  after    {self.instructions:,} instructions")
        lines.append(f"  taken by {self.handler or 'nothing: the core stopped'}")
        items = [f"{name:>5} {value:08x}" for name, value in self.registers.items()]
        lines += ["  " + "  ".join(items[start : start + 4]) for start in range(0, len(items), 4)]
        return "\n".join(lines)
