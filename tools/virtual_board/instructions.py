"""What the pipeline of the Cortex-M7 needs to know of an instruction: unit, operands and results."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum, IntEnum, auto

import capstone
from capstone import arm_const as arm


class Unit(Enum):
    """Where an instruction executes. BITS: bit fields, extension and SIMD, in one of the two ALUs."""

    ALU = auto()
    SHIFT = auto()
    BITS = auto()
    MULTIPLY = auto()
    LOAD = auto()
    STORE = auto()
    FLOAT = auto()
    BRANCH = auto()


class Port(IntEnum):
    """Where an operand is wanted."""

    SHIFT = 0
    ADDRESS = 1
    ALU = 2
    MULTIPLIER = 3
    ACCUMULATOR = 4
    STORE = 5


class Result(Enum):
    """How a result comes."""

    EARLY = auto()  # from the early ALU, or a base register that an access has stepped
    LATE = auto()
    REVERSED = auto()
    SATURATED = auto()
    PRODUCT = auto()
    WORD = auto()
    NARROW = auto()
    FLOAT = auto()
    FLOAT_SUM = auto()


@dataclass(frozen=True)
class Instruction:
    """An instruction as the issue stage sees it.

    is_alone: never issues beside another. cycles: in which it lets none after it issue. may_run_early: may
    use the early ALU. uses_shifter: has an operand that is shifted on its way. base, offset: of a load
    whose address they tell apart from another's. target: of a branch, from the start of the code.
    """

    unit: Unit
    reads: tuple[tuple[str, Port], ...] = ()
    writes: tuple[tuple[str, Result], ...] = ()
    sets_flags: bool = False
    is_alone: bool = False
    cycles: int = 1
    may_run_early: bool = False
    uses_shifter: bool = False
    base: str | None = None
    offset: int = 0
    target: int | None = None


_DIVISION_CYCLES = 7
_SYSTEM_CYCLES = 3
_FLOAT_REGISTER = re.compile(r"[sdq]\d+")
_FLOAT_CYCLES = {"vdiv": 16, "vsqrt": 14}
_SHIFTS = {"lsl", "lsr", "asr", "ror"}
_EARLY = {"add", "sub", "mov", "movs", "addw", "subw", "movw", "movt", "adr"} | _SHIFTS
_COMPARISONS = {"cmp", "cmn", "tst", "teq"}
_REVERSALS = {"rev", "rev16", "revsh", "rbit"}
_EARLY_FIELDS = {"sbfx", "ubfx"} | _REVERSALS
_SHIFTED_FIELDS = {"bfi", "bfc", "pkhbt", "pkhtb"} | _EARLY_FIELDS
_SATURATING_PREFIXES = ("ssat", "usat", "usad", "qadd", "qsub", "qdadd", "qdsub", "qasx", "qsax", "uq")
_PARALLEL_PREFIXES = ("sadd", "ssub", "uadd", "usub", "sh", "uh", "sasx", "ssax", "uasx", "usax")
_BIT_PREFIXES = (*_SATURATING_PREFIXES, *_PARALLEL_PREFIXES, "sxt", "uxt", "clz", "sel")
_LONG_SUMS = ("smlal", "umlal", "umaal", "smlsld")
_SUMS = ("mla", "mls", "smla", "smls", "smmla", "smmls")
_PRODUCTS = ("mul", "smul", "umul", "smmul", "smuad", "smusd")
_LONG_PRODUCTS = {"smull", "umull"}
_SYSTEM = ("mrs", "msr", "dsb", "dmb", "isb", "svc", "bkpt", "wfi", "wfe", "cps", "udf")
_FLOAT_SUMS = ("vmla", "vmls", "vfma", "vfms", "vnmla", "vnmls", "vfnma", "vfnms")
_UNARY = ("mov", "mvn", "adr", "sxtb", "sxth", "uxtb", "uxth", "rev", "rbit", "clz", "rrx", "v")
_BRANCHES = {"b", "bl", "bx", "blx", "cbz", "cbnz", "tbb", "tbh"}


@dataclass(frozen=True)
class _Parts:
    """An instruction's name without condition and suffixes, its registers and what is special of it."""

    name: str
    registers: tuple[str, ...]
    operands: int
    code: int
    shifted: bool
    conditional: bool
    sets_flags: bool
    writes_back: bool
    memory: tuple[str, str | None, int, int] | None  # base, index, offset in brackets, offset after them
    target: int | None


def _disassembler() -> capstone.Cs:
    engine = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS)
    engine.detail = True
    engine.skipdata = True
    return engine


_ENGINE = _disassembler()


def decode(code: bytes) -> list[Instruction]:
    """Decode Thumb instructions; what is none of this core takes a cycle alone."""
    return [_instruction(parts) if parts else Instruction(Unit.ALU, is_alone=True) for parts in _parts(code)]


def _parts(code: bytes) -> Iterator[_Parts | None]:
    for found in _ENGINE.disasm(code, 0):
        if not found.id:
            yield None
            continue
        registers = [operand for operand in found.operands if operand.type == arm.ARM_OP_REG]
        memory = next((operand for operand in found.operands if operand.type == arm.ARM_OP_MEM), None)
        immediates = [operand.imm for operand in found.operands if operand.type == arm.ARM_OP_IMM]
        place = None
        if memory is not None:
            where = memory.mem
            after = immediates[-1] if found.writeback and immediates else 0
            place = (
                found.reg_name(where.base),
                found.reg_name(where.index) if where.index else None,
                where.disp,
                after,
            )
        name = found.insn_name()
        yield _Parts(
            name=name,
            registers=tuple(found.reg_name(operand.reg) for operand in registers),
            operands=len(found.operands),
            code=int.from_bytes(found.bytes[:2], "little") << 16 | int.from_bytes(found.bytes[2:], "little"),
            shifted=any(operand.shift.type for operand in registers),
            conditional=found.cc not in (arm.ARM_CC_INVALID, arm.ARM_CC_AL),
            sets_flags=bool(found.update_flags),
            writes_back=bool(found.writeback),
            memory=place,
            target=immediates[-1] if name in ("b", "cbz", "cbnz") and immediates else None,
        )


def _condition(parts: _Parts) -> tuple[tuple[str, Port], ...]:
    reads_flags = parts.conditional or parts.name in ("adc", "sbc", "rsc", "sel", "rrx")
    return (("flags", Port.ALU),) if reads_flags else ()


def _sources(parts: _Parts, results: int = 1) -> tuple[str, ...]:
    """Return the operands; the result is one of them where it is written only once, as in `adds r0, r1`."""
    in_place = parts.operands == results + 1 and not parts.name.startswith(_UNARY)
    return parts.registers if in_place else parts.registers[results:]


def _operation(parts: _Parts, unit: Unit, result: Result, port: Port, results: int = 1) -> Instruction:
    """Return an operation on registers: results first, then operands."""
    return Instruction(
        unit,
        reads=(*((register, port) for register in _sources(parts, results)), *_condition(parts)),
        writes=tuple((register, result) for register in parts.registers[:results]),
        sets_flags=parts.sets_flags,
    )


def _product(parts: _Parts) -> Instruction:
    results = 2 if parts.name in _LONG_PRODUCTS else 1
    return _operation(parts, Unit.MULTIPLY, Result.PRODUCT, Port.MULTIPLIER, results)


def _division(parts: _Parts) -> Instruction:
    operation = _operation(parts, Unit.ALU, Result.LATE, Port.ALU)
    return replace(operation, is_alone=True, cycles=_DIVISION_CYCLES)


def _system(_parts: _Parts) -> Instruction:
    return Instruction(Unit.ALU, is_alone=True, cycles=_SYSTEM_CYCLES)


def _sum(parts: _Parts) -> Instruction:
    registers = parts.registers
    long = parts.name.startswith(_LONG_SUMS)
    factors, addends = (registers[2:], registers[:2]) if long else (registers[1:3], registers[3:])
    return Instruction(
        Unit.MULTIPLY,
        reads=(
            *((register, Port.MULTIPLIER) for register in factors),
            *((register, Port.ACCUMULATOR) for register in addends),
            *_condition(parts),
        ),
        writes=tuple((register, Result.PRODUCT) for register in registers[: 2 if long else 1]),
    )


def _has_shifted_constant(code: int) -> bool:
    """Tell a modified immediate that is a byte shifted, not a byte or a pattern of bytes."""
    is_modified_immediate = code & 0xFA00_8000 == 0xF000_0000
    return is_modified_immediate and bool(code & 0x0400_4000)


def _arithmetic(parts: _Parts) -> Instruction:
    name, registers = parts.name, parts.registers
    if name in _SHIFTED_FIELDS or name.startswith(_BIT_PREFIXES):
        return _bits(parts)
    writes_register = name not in _COMPARISONS
    sources = _sources(parts) if writes_register and name != "movt" else registers
    is_shift = name in _SHIFTS
    shifted = not is_shift and (parts.shifted or _has_shifted_constant(parts.code))
    ports = [Port.ALU] * len(sources)
    if parts.shifted and not is_shift:
        ports[-1] = Port.SHIFT
    return Instruction(
        Unit.SHIFT if is_shift else Unit.ALU,
        reads=(*zip(sources, ports, strict=True), *_condition(parts)),
        writes=tuple((register, Result.LATE) for register in registers[:1] if writes_register),
        sets_flags=parts.sets_flags or not writes_register,
        may_run_early=name in _EARLY and not shifted and not parts.conditional,
        uses_shifter=shifted,
    )


def _bits(parts: _Parts) -> Instruction:
    name, registers = parts.name, parts.registers
    adds = name.startswith(("sxta", "uxta"))
    shifted = name in _SHIFTED_FIELDS or adds
    sources = registers if name in ("bfi", "bfc") else _sources(parts)
    ports = [Port.ALU] * len(sources)
    if shifted and name != "bfc":
        ports[-1] = Port.SHIFT
    if name == "pkhtb":
        ports[0] = Port.SHIFT
    result = Result.REVERSED if name in _REVERSALS else Result.LATE
    if name.startswith(_SATURATING_PREFIXES):
        result = Result.SATURATED
    return Instruction(
        Unit.BITS,
        reads=(*zip(sources, ports, strict=True), *_condition(parts)),
        writes=((registers[0], result),),
        sets_flags=parts.sets_flags,
        uses_shifter=shifted,
    )


def _access(parts: _Parts) -> Instruction:
    """Return a load or store; LDRD and STRD move 64 bits a cycle, alone."""
    assert parts.memory is not None
    base, index, offset, after = parts.memory
    name = parts.name
    addresses = [(register, Port.ADDRESS) for register in (base, index) if register not in (None, "pc")]
    reads = tuple((register, port) for register, port in addresses if register is not None)
    stepped = ((base, Result.EARLY),) if parts.writes_back else ()
    is_double = name in ("ldrd", "strd")
    if name.startswith("ld"):
        result = Result.WORD if name in ("ldr", "ldrd") else Result.NARROW
        plain = index is None and not is_double
        return Instruction(
            Unit.LOAD,
            reads=(*reads, *_condition(parts)),
            writes=(*((register, result) for register in parts.registers), *stepped),
            is_alone=is_double or "pc" in parts.registers or "ex" in name,
            base=base if plain else None,
            offset=0 if after else offset,
        )
    if not name.startswith("st"):  # PLD
        return Instruction(Unit.LOAD, reads=reads)
    return Instruction(
        Unit.STORE,
        reads=(*reads, *((register, Port.STORE) for register in parts.registers), *_condition(parts)),
        writes=stepped,
        is_alone=is_double or "ex" in name,
    )


def _multiple(parts: _Parts) -> Instruction:
    """Return LDM, STM, PUSH or POP: two registers a cycle, alone."""
    implied = parts.name in ("push", "pop")
    base = "sp" if implied else parts.registers[0]
    moved = parts.registers if implied else parts.registers[1:]
    loads = parts.name.startswith(("ldm", "pop"))
    stepped = ((base, Result.EARLY),) if implied or parts.writes_back else ()
    stored = () if loads else tuple((register, Port.STORE) for register in moved)
    loaded = tuple((register, Result.WORD) for register in moved) if loads else ()
    return Instruction(
        Unit.LOAD if loads else Unit.STORE,
        reads=((base, Port.ADDRESS), *stored),
        writes=(*stepped, *loaded),
        is_alone=True,
        cycles=(len(moved) + 1) // 2,
    )


def _float_multiple(parts: _Parts) -> Instruction:
    words = sum(2 if register.startswith("d") else 1 for register in parts.registers)
    return Instruction(Unit.LOAD, is_alone=True, cycles=max(1, (words + 1) // 2))


def _float_access(parts: _Parts) -> Instruction:
    assert parts.memory is not None
    address = ((parts.memory[0], Port.ADDRESS),) if parts.memory[0] != "pc" else ()
    moved = parts.registers[0]
    if parts.name == "vldr":
        instruction = Instruction(Unit.LOAD, reads=address, writes=((moved, Result.LATE),))
    else:
        instruction = Instruction(Unit.STORE, reads=(*address, (moved, Port.STORE)))
    return replace(instruction, is_alone=moved.startswith("d"))


def _float_sum(parts: _Parts) -> Instruction:
    total, *factors = parts.registers
    reads = (*((register, Port.ALU) for register in factors), (total, Port.ACCUMULATOR))
    return Instruction(Unit.FLOAT, reads=reads, writes=((total, Result.FLOAT_SUM),))


def _float_move(parts: _Parts) -> Instruction:
    """Return a move between registers; one of two core registers at once goes alone."""
    is_double = len(parts.registers) > 2
    to_core = not _FLOAT_REGISTER.fullmatch(parts.registers[0])
    move = _operation(parts, Unit.ALU, Result.LATE if to_core else Result.FLOAT, Port.ALU)
    return replace(move, is_alone=is_double)


def _float_operation(parts: _Parts) -> Instruction:
    """Return floating-point arithmetic, a comparison or a move of flags."""
    if parts.name.startswith(("vcmp", "vmrs", "vmsr")):
        moves = not parts.name.startswith("vcmp")
        reads = tuple((register, Port.ALU) for register in parts.registers if not moves)
        return Instruction(Unit.FLOAT, reads=reads, sets_flags=moves, is_alone=moves)
    operation = _operation(parts, Unit.FLOAT, Result.FLOAT, Port.ALU)
    cycles = _FLOAT_CYCLES.get(parts.name, 1)
    return replace(operation, is_alone=cycles > 1, cycles=cycles)


def _branch(parts: _Parts) -> Instruction:
    """Return a branch; it is predicted, so it waits for no flags. Its mistakes are counted elsewhere."""
    is_table = parts.name in ("tbb", "tbh")
    links = (("lr", Result.LATE),) if parts.name in ("bl", "blx") else ()
    return Instruction(
        Unit.BRANCH, writes=links, is_alone=is_table, cycles=2 if is_table else 1, target=parts.target
    )


# How to read the instructions whose names begin so; the first that fits counts, the rest is arithmetic.
_FORMS: tuple[tuple[tuple[str, ...], Callable[[_Parts], Instruction]], ...] = (
    (("vldm", "vstm", "vpush", "vpop"), _float_multiple),
    (("vldr", "vstr"), _float_access),
    (_FLOAT_SUMS, _float_sum),
    (("vmov",), _float_move),
    (("v",), _float_operation),
    (("push", "pop", "ldm", "stm"), _multiple),
    (("ld", "st", "pld"), _access),
    ((*_LONG_SUMS, *_SUMS), _sum),
    (_PRODUCTS, _product),
    (("sdiv", "udiv"), _division),
    (_SYSTEM, _system),
)


def _instruction(parts: _Parts) -> Instruction:
    if parts.name in _BRANCHES:
        return _branch(parts)
    read = next((form for names, form in _FORMS if parts.name.startswith(names)), _arithmetic)
    return read(parts)
