"""What an instruction writes, as far as the checks need it: ARMv7-M ARM (DDI 0403E) chapters A5 and A7.

`narrow` and `wide` update the forms of r0 ... r14 and say what must be checked before the instruction
runs; for an access that must be word-aligned they leave the form of its address in place ADDRESS. The
stack pointer is not tracked, its two lowest bits always read as zero; but words that are loaded from the
stack, where compilers keep pointers for which registers do not suffice, are.
"""

from __future__ import annotations

from tools.virtual_board.native import layout as at
from tools.virtual_board.native.affine import UNKNOWN, add, constant, negate, shift_left, stack_word
from tools.virtual_board.native.jit import Shared, jit

NOTHING = 0
WORD_ALIGNED = 1
USES_FPU = 2
DOUBLE = 4
UNDEFINED = 8

SP = 13
LR = 14
PC = 15
ADDRESS = 15


@jit
def is_wide(halfword: int) -> bool:
    """Tell whether the instruction that starts with `halfword` has 32 bits."""
    return halfword >= 0xE800


@jit
def form_of(shared: Shared, register: int) -> int:
    """Return the form of a register; SP, and PC as ADR sees it, are multiples of 4."""
    return 0 if register in (SP, PC) else shared[at.SCRATCH + register]


@jit
def _write(shared: Shared, register: int, form: int) -> None:
    if register == SP:
        shared[at.STACK_MOVED] = 1
    elif register != PC:
        shared[at.SCRATCH + register] = form


@jit
def _load_from_stack(shared: Shared, register: int, offset: int) -> None:
    """Write a register with a word of the stack, if that is still the one from the start of the block."""
    changed = shared[at.STACK_MOVED] or shared[at.STACK_WRITTEN] >> (offset >> 2 & 63) & 1
    _write(shared, register, UNKNOWN if changed else stack_word(offset))


@jit
def _store_to_stack(shared: Shared, offset: int) -> None:
    shared[at.STACK_WRITTEN] |= 1 << (offset >> 2 & 63)


@jit
def _forget(shared: Shared, registers: int) -> None:
    for register in range(at.REGISTERS):
        if registers >> register & 1:
            _write(shared, register, UNKNOWN)


@jit
def _check_address(shared: Shared, register: int) -> int:
    if register in (SP, PC):
        return NOTHING
    shared[at.SCRATCH + ADDRESS] = shared[at.SCRATCH + register]
    return WORD_ALIGNED


@jit
def _narrow_arithmetic(shared: Shared, code: int) -> None:
    """Apply groups 0 ... 7: shifts, ADD, SUB, MOV, CMP with immediates."""
    low = code & 7
    middle = form_of(shared, code >> 3 & 7)
    high = code >> 8 & 7
    group = code >> 11
    immediate = constant(code & 0xFF)
    if group == 0:  # LSL, or MOV with a shift of 0
        _write(shared, low, shift_left(middle, code >> 6 & 31))
    elif group < 3:  # LSR, ASR
        _write(shared, low, UNKNOWN)
    elif group == 3:  # ADD, SUB of a register or 3 bits
        operand = constant(code >> 6 & 7) if code & 0x400 else form_of(shared, code >> 6 & 7)
        _write(shared, low, add(middle, negate(operand) if code & 0x200 else operand))
    elif group == 4:
        _write(shared, high, immediate)
    elif group == 6:
        _write(shared, high, add(form_of(shared, high), immediate))
    elif group == 7:
        _write(shared, high, add(form_of(shared, high), negate(immediate)))


@jit
def _narrow_register(shared: Shared, code: int) -> None:
    """Apply group 8: data processing on low registers, ADD, CMP and MOV of high ones."""
    low = code & 7
    if not code & 0x400:
        operation = code >> 6 & 15
        if operation == 9:  # RSB #0
            _write(shared, low, negate(form_of(shared, code >> 3 & 7)))
        elif operation not in (8, 10, 11):  # TST, CMP, CMN
            _write(shared, low, UNKNOWN)
        return
    destination = low | code >> 4 & 8
    source = code >> 3 & 15
    value = UNKNOWN if source == PC else form_of(shared, source)
    if code & 0x300 == 0x000:
        _write(shared, destination, add(form_of(shared, destination), value))
    elif code & 0x300 == 0x200:
        _write(shared, destination, value)
    elif code & 0x380 == 0x380:  # BLX
        _write(shared, LR, UNKNOWN)


@jit
def _narrow_memory(shared: Shared, code: int, literal: int) -> None:
    """Apply groups 9 ... 19: loads and stores, which may be unaligned."""
    group = code >> 11
    if group == 9:
        _write(shared, code >> 8 & 7, literal)
    elif group == 18:
        _store_to_stack(shared, (code & 0xFF) * 4)
    elif group == 19:
        _load_from_stack(shared, code >> 8 & 7, (code & 0xFF) * 4)
    elif group in (10, 11):  # register offset
        if code >> 9 & 7 >= 3:
            _write(shared, code & 7, UNKNOWN)
    elif group & 1:  # the loads among those with an immediate offset
        _write(shared, code & 7, UNKNOWN)


@jit
def narrow(shared: Shared, code: int, literal: int) -> int:
    """Apply a 16-bit instruction; `literal` is the form of the word that LDR (literal) would load."""
    group = code >> 11
    if group < 8:
        _narrow_arithmetic(shared, code)
    elif group == 8:
        _narrow_register(shared, code)
    elif group < 20:
        _narrow_memory(shared, code, literal)
    elif group < 22:  # ADR, ADD sp: multiples of 4
        _write(shared, code >> 8 & 7, 0)
    elif group < 24:
        if code & 0xF00 == 0x200:  # SXTH, SXTB, UXTH, UXTB keep the lowest bits
            _write(shared, code & 7, form_of(shared, code >> 3 & 7))
        elif code & 0xF00 == 0xA00:  # REV, REV16, REVSH
            _write(shared, code & 7, UNKNOWN)
        elif code & 0x600 == 0x400:  # PUSH, POP
            _forget(shared, code & 0xFF if code & 0x800 else 0)
            _write(shared, SP, UNKNOWN)
        elif code & 0xF00 == 0x000:  # ADD, SUB of SP
            _write(shared, SP, UNKNOWN)
    elif group < 26:  # STM, LDM: with write-back of a multiple of 4
        check = _check_address(shared, code >> 8 & 7)
        if group == 25:
            _forget(shared, code & 0xFF)
        return check
    return NOTHING


@jit
def _modified_immediate(first: int, second: int) -> int:
    """Return the value of ThumbExpandImm as a form."""
    rotation = (first >> 10 & 1) << 4 | (second >> 12 & 7) << 1 | second >> 7 & 1
    if rotation >= 8:
        value = 0x80 | second & 0x7F
        return constant((value << 32 | value) >> rotation)
    return 0 if rotation & 6 == 4 else constant(second & 0xFF)


@jit
def _data_processing(shared: Shared, codes: int, first: int, second: int) -> None:
    """Apply the operation that the immediate and shifted-register forms share to two operands."""
    operation = codes >> 21 & 15
    destination = codes >> 8 & 15
    if operation == 8:  # ADD
        _write(shared, destination, add(first, second))
    elif operation == 13:  # SUB
        _write(shared, destination, add(first, negate(second)))
    elif operation == 14:  # RSB
        _write(shared, destination, add(second, negate(first)))
    elif operation == 2 and codes >> 16 & 15 == PC:  # MOV
        _write(shared, destination, second)
    elif operation == 1 and second == constant(3):  # BIC of the lowest bits
        _write(shared, destination, 0)
    else:
        _write(shared, destination, UNKNOWN)


@jit
def _plain_immediate(shared: Shared, first: int, second: int) -> None:
    """Apply ADDW, SUBW, MOVW, MOVT, bit fields and saturation."""
    operation = first >> 4 & 31
    destination = second >> 8 & 15
    value = form_of(shared, first & 15)
    immediate = constant(second & 0xFF)
    if operation == 0:
        _write(shared, destination, add(value, immediate))
    elif operation == 10:
        _write(shared, destination, add(value, negate(immediate)))
    elif operation == 4:
        _write(shared, destination, immediate)
    elif operation != 12:  # MOVT keeps the lowest bits
        _write(shared, destination, UNKNOWN)


@jit
def _load_store(shared: Shared, first: int, second: int, literal: int) -> None:
    """Apply LDR, STR and their byte and halfword forms, which may be unaligned."""
    register = first & 15
    if not first & 0x80 and register != PC and second & 0x900 == 0x900:  # write-back
        step = constant(second & 0xFF)
        _write(shared, register, add(form_of(shared, register), step if second & 0x200 else negate(step)))
    if first == 0xF8DD:
        _load_from_stack(shared, second >> 12, second & 0xFFF)
    elif first & 0x10:
        is_word_literal = first & 0xFF7F == 0xF85F
        _write(shared, second >> 12, literal if is_word_literal else UNKNOWN)
    elif register == SP and first & 0x80:
        _store_to_stack(shared, second & 0xFFF)
    elif register == SP:  # below SP, or at a register's offset
        shared[at.STACK_MOVED] = 1


@jit
def _multiple_or_double(shared: Shared, first: int, second: int) -> int:
    """Apply LDM, STM, LDRD, STRD, exclusive accesses, TBB and TBH."""
    register = first & 15
    check = _check_address(shared, register)
    if not first & 0x40:  # LDM, STM
        if first & 0x10:
            _forget(shared, second)
        if register == SP:
            shared[at.STACK_MOVED] = 1
        return check
    if first & 0x120:  # LDRD, STRD: indexed or with write-back
        plain_from_stack = first & 0xFFEF == 0xE9CD
        offset = (second & 0xFF) * 4
        if plain_from_stack and first & 0x10:
            _load_from_stack(shared, second >> 12, offset)
            _load_from_stack(shared, second >> 8 & 15, offset + 4)
        elif first & 0x10:
            _forget(shared, 1 << (second >> 12) | 1 << (second >> 8 & 15))
        elif plain_from_stack:
            _store_to_stack(shared, offset)
            _store_to_stack(shared, offset + 4)
        if register == SP and not plain_from_stack:
            shared[at.STACK_MOVED] = 1
        return check
    _forget(shared, 1 << (second >> 12) | 1 << (second >> 8 & 15) | 1 << (second & 15))
    return check if first & 0xFFE0 == 0xE840 else NOTHING  # LDREX, STREX


@jit
def _coprocessor(shared: Shared, first: int, second: int) -> int:
    coprocessor = second >> 8 & 15
    if coprocessor not in (10, 11):
        _forget(shared, 0x7FFF)
        return NOTHING
    if first & 0xFE00 == 0xEC00:
        if first & 0xFFE0 != 0xEC40:  # VLDR, VSTR, VLDM, VSTM
            if first & 15 == SP and first & 0xFF30 != 0xED10:  # all but VLDR
                shared[at.STACK_MOVED] = 1
            return _check_address(shared, first & 15) | USES_FPU
        if first & 0x10:  # VMOV to two core registers
            _forget(shared, 1 << (second >> 12) | 1 << (first & 15))
        return USES_FPU
    if first & 0xFF00 == 0xEE00 and second & 0x10:  # VMOV, VMRS, VMSR
        if first & 0x10:
            _write(shared, second >> 12, UNKNOWN)
        return USES_FPU
    return USES_FPU | (DOUBLE if coprocessor == 11 else 0)


@jit
def wide(shared: Shared, first: int, second: int, literal: int) -> int:
    """Apply a 32-bit instruction; `literal` is the form of the word that LDR (literal) would load."""
    codes = first << 16 | second
    if first & 0xFE00 == 0xE800:
        return _multiple_or_double(shared, first, second)
    if first & 0xEF00 == 0xEF00 or first & 0xFF10 == 0xF900:  # Advanced SIMD, which Unicorn executes
        _forget(shared, 0x7FFF)
        return UNDEFINED
    if first & 0xEC00 == 0xEC00:
        return _coprocessor(shared, first, second)
    if first & 0xFE00 == 0xEA00:  # data processing, shifted register
        operand = shift_left(form_of(shared, second & 15), second >> 10 & 0x1C | second >> 6 & 3)
        _data_processing(
            shared, codes, form_of(shared, first & 15), operand if not second & 0x30 else UNKNOWN
        )
    elif codes & 0xF800_8000 == 0xF000_0000:
        if first & 0x200:
            _plain_immediate(shared, first, second)
        else:
            _data_processing(shared, codes, form_of(shared, first & 15), _modified_immediate(first, second))
    elif first & 0xF800 == 0xF000:  # branches, BL, MSR, MRS, hints
        written = second >> 8 & 15 if first & 0xFFE0 == 0xF3E0 else LR
        _write(shared, written, UNKNOWN)
    elif first & 0xFE00 == 0xF800:
        _load_store(shared, first, second, literal)
    elif first & 0xFE00 == 0xFA00:  # data processing on registers, multiplication, division
        _write(shared, second >> 8 & 15, UNKNOWN)
        if first & 0xFF80 == 0xFB80:  # long multiplication
            _write(shared, second >> 12, UNKNOWN)
    else:
        _forget(shared, 0x7FFF)
    return NOTHING
