"""The forms that decide on alignment agree with what instructions really do to registers."""

from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Iterator
from types import ModuleType

import numba
import pytest
from unicorn import UC_ARCH_ARM, UC_HOOK_INTR, UC_MODE_THUMB, Uc, UcError
from unicorn import arm_const as arm

from tools.virtual_board.native import layout as at

CODE = 0x0001_0000
DATA = 0x2000_0000
DATA_BYTES = 0x10_0000
REGISTERS = [arm.UC_ARM_REG_R0 + number for number in range(13)] + [arm.UC_ARM_REG_SP, arm.UC_ARM_REG_LR]
_MODULES = ["affine", "decode", "analysis"]


@pytest.fixture(scope="module")
def decode() -> Iterator[ModuleType]:
    """`native.decode` as plain Python."""
    names = [f"tools.virtual_board.native.{name}" for name in ("jit", *_MODULES)]
    kept = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    disabled, numba.config.DISABLE_JIT = numba.config.DISABLE_JIT, 1
    try:
        yield importlib.import_module("tools.virtual_board.native.decode")
    finally:
        numba.config.DISABLE_JIT = disabled
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(kept)


class Core:
    """A bare Cortex-M7 that executes one instruction."""

    def __init__(self) -> None:
        self.unicorn = Uc(UC_ARCH_ARM, UC_MODE_THUMB, arm.UC_CPU_ARM_CORTEX_M7)
        self.unicorn.mem_map(CODE, 0x4000)
        self.unicorn.mem_map(DATA, DATA_BYTES)
        self.unicorn.mem_write(DATA, random.Random(0).randbytes(DATA_BYTES))
        self.interrupted = False
        self.unicorn.hook_add(UC_HOOK_INTR, self._interrupt)

    def _interrupt(self, unicorn: Uc, _number: int, _data: object) -> None:
        self.interrupted = True
        unicorn.emu_stop()

    def execute(self, code: bytes, values: list[int]) -> list[int] | None:
        """Return r0 ... r14 afterwards; None where the instruction faults."""
        self.unicorn.ctl_remove_cache(CODE + 0x2000, CODE + 0x2008)
        self.unicorn.mem_write(CODE + 0x2000, code + b"\x00\xbf" * 2)
        self.interrupted = False
        for register, value in zip(REGISTERS, values, strict=True):
            self.unicorn.reg_write(register, value)
        try:
            self.unicorn.emu_start((CODE + 0x2000) | 1, CODE + 0x2000 + len(code), count=1)
        except UcError:
            return None
        return None if self.interrupted else [self.unicorn.reg_read(register) for register in REGISTERS]


def evaluate(form: int, values: list[int], core: Core) -> int:
    total = form >> 32 & 3
    if form >> 34 & 1:  # a word of the stack
        address = values[13] + (form >> 35)
        total += int.from_bytes(core.unicorn.mem_read(address, 4), "little")
    for register, value in enumerate(values):
        total += (form >> 2 * register & 3) * value
    return total & 3


def _forms() -> list[int]:
    shared = [0] * at.HEADER_WORDS
    for register in range(15):
        shared[at.SCRATCH + register] = 1 << 2 * register
    shared[at.SCRATCH + 13] = 0
    return shared


def _values(generator: random.Random) -> list[int]:
    """Pointers into the middle of the data, so that most loads and stores work."""
    middle = DATA + DATA_BYTES // 2
    values = [middle + generator.randrange(-0x8000, 0x8000) for _ in range(15)]
    values[13] &= ~3
    for place in generator.sample(range(13), 3):
        values[place] = generator.getrandbits(5)  # offsets
    return values


def _check(decode: ModuleType, core: Core, code: bytes, generator: random.Random) -> bool:
    values = _values(generator)
    after = core.execute(code, values)
    if after is None:
        return False
    first, *rest = (int.from_bytes(code[place : place + 2], "little") for place in range(0, len(code), 2))
    shared = _forms()
    if rest:
        decode.wide(shared, first, rest[0], -1)
    else:
        decode.narrow(shared, first, -1)
    for register in range(15):
        form = shared[at.SCRATCH + register]
        if register != 13 and form >= 0:
            assert evaluate(form, values, core) == after[register] & 3, (code.hex(), register)
    return True


def test_every_narrow_instruction_leaves_the_registers_as_the_forms_say(decode: ModuleType) -> None:
    generator, core = random.Random(1), Core()
    executed = sum(
        _check(decode, core, code.to_bytes(2, "little"), generator) for code in range(0, 0xD000, 5)
    )
    assert executed > 7000


@pytest.mark.parametrize("group", range(0xE8, 0x100))
def test_wide_instructions_leave_the_registers_as_the_forms_say(decode: ModuleType, group: int) -> None:
    generator, core = random.Random(group), Core()
    executed = 0
    for _ in range(600):
        first = group << 8 | generator.getrandbits(8)
        code = first.to_bytes(2, "little") + generator.getrandbits(16).to_bytes(2, "little")
        executed += _check(decode, core, code, generator)
    assert executed > 0 or group in (0xEF, 0xFC, 0xFD, 0xFF)  # undefined all
