"""The virtual board: runs an image, takes its faults and tells what happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path

from unicorn import arm_const as arm

from converter.board import Board
from tools.virtual_board import faults
from tools.virtual_board.chip import Chip
from tools.virtual_board.cpu import GENERAL, LR, PC, SP, Event, Stop
from tools.virtual_board.cycles import estimate
from tools.virtual_board.diagnosis import EXCEPTION_RETURN, SUPERVISOR_CALL, Diagnosis, diagnose, is_aligned
from tools.virtual_board.exceptions import LockupError, ReturnFaultError
from tools.virtual_board.faults import FaultKind, FaultReport
from tools.virtual_board.image import load_image
from tools.virtual_board.layers import LayerCounter
from tools.virtual_board.native import layout as at
from tools.virtual_board.snapshot import DEFAULT_DEADLINE, Snapshot
from tools.virtual_board.trace import Trace

UNKNOWN_FUNCTION = "(no symbol)"
_NEVER = 1 << 62
_WHILE_MASKED = 1000  # instructions between two looks at a pending exception that is masked
_FIRST_EXC_RETURN = 0xF000_0000


class Outcome(Enum):
    """Why `VirtualBoard.run` returned."""

    LIMIT = auto()  # the instructions are used up
    IDLE = auto()  # firmware waits for the host
    HALTED = auto()  # the core stopped for good: see `faults`


class VirtualBoard:
    """An STM32F746G-DISCO that runs `elf`, at power-up.

    Args:
        board: the board's description; its memories are the only ones that there are.
        elf: the image that would be flashed.
        on_uart: called with the bytes that the chip sent.
        deadline: instructions that firmware may execute between two times that it waits for the host.

    Raises:
        ConfigError: the image cannot be read or does not fit the board.
    """

    def __init__(
        self,
        board: Board,
        elf: Path,
        on_uart: Callable[[bytes], None] = lambda _data: None,
        deadline: int = DEFAULT_DEADLINE,
    ) -> None:
        self.image = load_image(board, elf)
        self.faults: list[FaultReport] = []
        self.warnings: list[str] = []
        self._warned: set[tuple[str, int]] = set()
        self.resets = 0
        self.halted = False
        self._on_uart = on_uart
        self._deadline = deadline
        self._waited_at = 0
        self._sleeping = False
        self.chip = Chip(board, self.image, self._warn)
        self.trace = Trace(self.chip.cpu, board)
        self.layers = LayerCounter(self.chip, self.image, self.trace)

    @property
    def instructions(self) -> int:
        """Instructions executed since power-up."""
        return self.chip.cpu.total

    @property
    def ticking(self) -> bool:
        """Whether time alone will wake the firmware."""
        return self.chip.systick.next_interrupt is not None

    def uart_send(self, data: bytes) -> None:
        """Send bytes to the chip."""
        self.chip.usart.feed(data)

    def reset(self) -> None:
        """Press the reset button: the core starts again, also after it had halted; memories stay."""
        self.halted = self._sleeping = False
        self._waited_at = self.instructions
        self.chip.system_reset()

    def run(self, max_instructions: int) -> Outcome:
        """Execute until the firmware waits for the host, the core halts, or the instructions are used up."""
        end = self.instructions + max_instructions
        self.chip.usart.idle = False
        outcome = None
        while outcome is None:
            outcome = self._step(end)
        if outcome is Outcome.IDLE:
            self._waited_at = self.instructions
        if sent := self.chip.usart.take():
            self._on_uart(sent)
        return outcome

    def _step(self, end: int) -> Outcome | None:
        chip = self.chip
        if self.halted:
            return Outcome.HALTED
        chip.update_interrupts()
        if self._sleeping and not chip.exceptions.waiting:
            return Outcome.IDLE
        self._sleeping = False
        self._guarded(chip.exceptions.deliver, Diagnosis(FaultKind.STACK_OVERFLOW, 0))
        late = self._waited_at + self._deadline
        if self.instructions >= end:
            return Outcome.LIMIT
        if self.instructions >= late:
            self._halt(Diagnosis(FaultKind.DEADLINE, 0, f"{self._deadline:,} instructions without an answer"))
            return Outcome.HALTED
        soon = self.instructions + _WHILE_MASKED if chip.exceptions.waiting else _NEVER
        self._react(chip.cpu.run(min(end, late, soon, chip.systick.next_interrupt or _NEVER)))
        if chip.reset_requested:
            self.resets += 1
            chip.system_reset()
        return Outcome.IDLE if chip.usart.idle else None

    def _react(self, stop: Stop) -> None:
        """Do what the chip does at an event of the core."""
        chip = self.chip
        if stop.event is Event.CHECK and stop.number != at.CHECK_DIVISION:
            replayed = chip.cpu.replay(stop.address)
            if replayed.event is not Event.LIMIT or is_aligned(chip, stop):
                stop = replayed  # the block faults before it gets there, or a word of the stack has changed
        if stop.event is Event.LIMIT:
            return
        if stop.event is Event.WAIT:
            self._sleeping = True
            chip.systick.skip_to_interrupt()
        elif stop.event is Event.INTERRUPT and stop.number == SUPERVISOR_CALL:
            self._guarded(chip.exceptions.call_supervisor, Diagnosis(FaultKind.UNDEFINED, 0, "SVC"))
        elif stop.event is Event.INTERRUPT and stop.number == EXCEPTION_RETURN:
            self._leave_handler()
        else:
            self._fault(diagnose(chip, stop))

    def _leave_handler(self) -> None:
        exc_return = self.chip.cpu.read(PC) | 1
        try:
            self.chip.exceptions.leave(exc_return)
        except ReturnFaultError:
            self._fault(Diagnosis(FaultKind.RETURN, faults.INVPC, f"EXC_RETURN 0x{exc_return:08x}"))

    def _guarded(self, action: Callable[[], None], diagnosis: Diagnosis) -> None:
        """Enter an exception; what goes wrong there stops the core."""
        try:
            action()
        except LockupError:
            self._halt(diagnosis)

    def _fault(self, diagnosis: Diagnosis) -> None:
        if diagnosis.kind is FaultKind.NOT_MODELLED:
            self._halt(diagnosis)
            return
        pc, registers = self.chip.cpu.pc, self._registers()
        try:
            handler: str | None = self.chip.exceptions.take_fault(diagnosis.status, diagnosis.address)
        except LockupError:
            handler = None
            self.halted = True
        self._report(diagnosis, pc, registers, handler)

    def _halt(self, diagnosis: Diagnosis) -> None:
        self.halted = True
        self._report(diagnosis, self.chip.cpu.pc, self._registers(), None)

    def _registers(self) -> dict[str, int]:
        cpu = self.chip.cpu
        values = {f"r{number}": cpu.read(register) for number, register in enumerate(GENERAL)}
        return values | {
            "sp": cpu.read(SP),
            "lr": cpu.read(LR),
            "pc": cpu.pc,
            "xpsr": cpu.read(arm.UC_ARM_REG_XPSR),
        }

    def _report(self, what: Diagnosis, pc: int, registers: dict[str, int], handler: str | None) -> None:
        state = self.chip.exceptions.state
        link = registers["lr"]
        self.faults.append(
            FaultReport(
                kind=what.kind,
                detail=what.detail,
                pc=pc,
                function=self.image.describe(pc),
                caller="an exception" if link >= _FIRST_EXC_RETURN else self.image.describe(link),
                address=what.address,
                registers=registers | {"cfsr": state.fault_status, "hfsr": state.hard_fault_status},
                instructions=self.instructions,
                handler=handler,
            )
        )

    def _warn(self, text: str) -> None:
        pc = self.chip.cpu.pc
        if (text, pc) not in self._warned:
            self._warned.add((text, pc))
            self.warnings.append(f"{text} (at {self.image.describe(pc)})")

    # What was counted.

    def profile(self) -> dict[str, int]:
        """Instructions of each function, without what it calls, since the counters were reset."""
        counts: Counter[str] = Counter()
        for block in self.chip.memory.block_counts():
            start, end = block.address, block.address + block.size
            while start < end:
                function = self.image.function_at(start)
                stop = min(end, function.address + function.size) if function and function.size else end
                name = self.image.names[function.symbol] if function else UNKNOWN_FUNCTION
                counts[name] += self.chip.memory.count_instructions(start, stop) * block.hits
                start = stop
        return dict(counts.most_common())

    def cycles_estimate(self) -> int:
        """Estimate the cycles of a Cortex-M7 since the counters were reset: see `cycles`.

        Without a trace that runs since then, it is a lower bound.
        """
        return estimate(self.chip.memory, self.chip.memory.block_counts(), self.trace.events).total

    def reset_counters(self) -> None:
        """Start profile and cycle estimate anew."""
        self.chip.memory.reset_counts()
        self.trace.reset_counts()

    def snapshot(self) -> Snapshot:
        """Return all that was counted and noticed."""
        return Snapshot(
            instructions=self.instructions,
            cycles_estimate=self.cycles_estimate(),
            profile=self.profile(),
            fault=self.faults[-1] if self.faults else None,
            faults=len(self.faults),
            warnings=tuple(self.warnings),
            resets=self.resets,
            halted=self.halted,
        )
