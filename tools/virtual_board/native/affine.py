"""Register values modulo 4 as linear forms of the registers' values at the start of a block.

A form is one integer: lanes of two bits, lane i the coefficient of register i modulo 4, lane 16 the
constant; then a flag, and the offset from SP of one word of the stack that is added where the flag is set;
-1 stands for a value that is not known. This suffices to decide, before a block runs, whether its LDRD,
LDM, VLDR, ... will find a word-aligned address.
"""

from __future__ import annotations

from tools.virtual_board.native.jit import jit

UNKNOWN = -1
CONSTANT_SHIFT = 32
STACK_FLAG = 1 << 34
STACK_SHIFT = 35
STACK_MASK = 0xFFFF
_REGISTERS_AND_CONSTANT = STACK_FLAG - 1
_LOW = 0x1_5555_5555
_HIGH = 0x2_AAAA_AAAA


@jit
def constant(value: int) -> int:
    """Return the form of a known value."""
    return (value & 3) << CONSTANT_SHIFT


@jit
def add(left: int, right: int) -> int:
    """Return left + right."""
    if left < 0 or right < 0 or left & right & STACK_FLAG:
        return UNKNOWN
    stack = (left | right) & ~_REGISTERS_AND_CONSTANT
    carry = left & right & _LOW
    differ = left ^ right
    return stack | (differ & _LOW) | ((differ ^ (carry << 1)) & _HIGH)


@jit
def negate(form: int) -> int:
    """Return -form."""
    if form < 0 or form & STACK_FLAG:
        return UNKNOWN
    return form ^ ((form & _LOW) << 1)


@jit
def shift_left(form: int, amount: int) -> int:
    """Return form << amount, amount ≥ 0."""
    if amount == 0:
        return form
    if amount > 1:
        return 0
    if form < 0 or form & STACK_FLAG:
        return UNKNOWN
    return (form & _LOW) << 1


@jit
def stack_word(offset: int) -> int:
    """Return the form of the word that stands `offset` bytes above SP."""
    return STACK_FLAG | (offset & STACK_MASK) << STACK_SHIFT
