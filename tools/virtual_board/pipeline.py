"""How long the Cortex-M7 takes for a stretch of code that finds all it needs in zero-wait memory.

Arm publishes no instruction timings of this core. The rules here are facts that others measured on silicon:
jnk0le, "pipeline cycle test" (STM32H743, github.com/jnk0le/random), and quinapalus, "Cortex-M7 instruction
cycle counts" (STM32H730, quinapalus.com/cm7cycles.html); for floating point LLVM's ARMScheduleM7.td. They
are listed in docs/virtual_board.md.

The core issues in order, up to two instructions a cycle: an older and a younger one. An ALU stands early in
the pipeline, beside address generation, and a second one cycle later, beside load data and multiplier, so
what a result costs depends on who wants it: `_DISTANCE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from tools.virtual_board.instructions import Instruction, Port, Result, Unit, decode

# Cycles from the issue of an instruction to the issue of one that wants its result, by Port.
_DISTANCE = {
    #             shift, address, ALU, multiplier, accumulator, store
    Result.EARLY: (1, 1, 0, 0, 0, 0),
    Result.LATE: (2, 2, 1, 1, 0, 0),
    Result.REVERSED: (2, 2, 0, 0, 0, 0),
    Result.SATURATED: (3, 3, 2, 2, 1, 1),
    Result.PRODUCT: (3, 3, 2, 2, 1, 1),
    Result.WORD: (2, 3, 1, 2, 1, 0),
    Result.NARROW: (3, 3, 2, 2, 1, 0),
    Result.FLOAT: (3, 3, 3, 3, 3, 3),
    Result.FLOAT_SUM: (5, 5, 5, 5, 3, 5),
}
_LOOP_PASSES = 4  # after which a loop runs as it will go on


class _Producer(NamedTuple):
    """When a register's value was issued and how it comes."""

    cycle: int
    result: Result


@dataclass
class _Issue:
    """The state of the issue stage: the present cycle, and the older instruction that it holds."""

    waits: bool
    cycle: int = 0
    older: Instruction | None = None
    producers: dict[str, _Producer] = field(default_factory=dict)

    def start_cycle(self, cycle: int) -> None:
        self.cycle = cycle
        self.older = None

    def ready(self, instruction: Instruction) -> int:
        """Return the first cycle in which the instruction finds its operands."""
        if not self.waits:
            return self.cycle
        return max((self._ready(register, port) for register, port in instruction.reads), default=self.cycle)

    def _ready(self, register: str, port: Port) -> int:
        producer = self.producers.get(register)
        return producer.cycle + _DISTANCE[producer.result][port] if producer else 0

    def issue(self, instruction: Instruction) -> None:
        ready = self.ready(instruction)
        if self.older is not None:
            if ready <= self.cycle and may_pair(self.older, instruction):
                self._write(instruction, is_older=False)
                self.start_cycle(self.cycle + 1)
                return
            self.start_cycle(self.cycle + 1)
        self.start_cycle(max(self.cycle, ready))
        self._write(instruction, is_older=True)
        if instruction.is_alone:
            self.start_cycle(self.cycle + instruction.cycles)
        else:
            self.older = instruction

    def _write(self, instruction: Instruction, *, is_older: bool) -> None:
        last = self.cycle + instruction.cycles - 1
        early = self._runs_early(instruction, is_older=is_older)
        for register, result in instruction.writes:
            self.producers[register] = _Producer(last, Result.EARLY if early else result)
        if instruction.sets_flags:
            self.producers["flags"] = _Producer(last, Result.LATE)

    def _runs_early(self, instruction: Instruction, *, is_older: bool) -> bool:
        """Additions and moves may take the early ALU from the older place, plain shifts from both."""
        if not instruction.may_run_early or not (is_older or instruction.unit is Unit.SHIFT):
            return False
        return all(self._ready(register, Port.SHIFT) <= self.cycle for register, _ in instruction.reads)

    def end(self) -> int:
        """Return the cycle after the last one in use."""
        return self.cycle + (self.older is not None)


_ONE_PER_CYCLE = (
    {Unit.STORE, Unit.MULTIPLY},
    {Unit.BITS},
    {Unit.FLOAT},
    {Unit.BRANCH},
)


def may_pair(older: Instruction, younger: Instruction) -> bool:
    """Tell whether two instructions can issue in one cycle as far as the core's units go."""
    if older.is_alone or younger.is_alone or younger.unit is Unit.BITS or older.unit is Unit.BRANCH:
        return False
    if any(older.unit in units and younger.unit in units for units in _ONE_PER_CYCLE):
        return False
    if younger.uses_shifter and (older.uses_shifter or older.unit is Unit.SHIFT):
        return False
    both_load = older.unit is Unit.LOAD and younger.unit is Unit.LOAD
    return not both_load or _in_different_banks(older, younger)


def _in_different_banks(older: Instruction, younger: Instruction) -> bool:
    """Even and odd words are different banks; loads with different bases may meet in one."""
    if older.base is None or older.base != younger.base:
        return False
    return bool((older.offset ^ younger.offset) & 4)


class BlockTiming(NamedTuple):
    """Cycles of one pass through a block: to issue it, and to wait for operands on top of that."""

    issue: float
    operands: float


def _cycles(instructions: Sequence[Instruction], *, is_loop: bool, waits: bool) -> float:
    state = _Issue(waits)
    ends = []
    for _ in range(_LOOP_PASSES if is_loop else 1):
        for instruction in instructions:
            state.issue(instruction)
        state.start_cycle(state.end())  # a branch that is taken ends the pair
        ends.append(state.cycle)
    return float(ends[-1] - ends[-2] if is_loop else ends[-1])


@lru_cache(maxsize=1 << 16)
def time_block(code: bytes) -> BlockTiming:
    """Time the block of instructions `code`; one that branches to its own start as a running loop."""
    instructions = decode(code)
    is_loop = bool(instructions) and instructions[-1].target == 0
    issue = _cycles(instructions, is_loop=is_loop, waits=False)
    return BlockTiming(issue, max(0.0, _cycles(instructions, is_loop=is_loop, waits=True) - issue))
