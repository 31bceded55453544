"""What is worked out once for every block, the first time it runs: its instructions and its checks."""

from __future__ import annotations

from tools.virtual_board.native import layout as at
from tools.virtual_board.native.affine import CONSTANT_SHIFT, UNKNOWN, constant
from tools.virtual_board.native.decode import (
    ADDRESS,
    DOUBLE,
    SP,
    UNDEFINED,
    USES_FPU,
    WORD_ALIGNED,
    is_wide,
    narrow,
    wide,
)
from tools.virtual_board.native.jit import Shared, jit


@jit
def halfword_at(shared: Shared, address: int) -> int:
    """Return the halfword at `address`, 0 outside memory."""
    slot = shared[at.PAGE_TABLE + (address >> at.PAGE_SHIFT)]
    if slot < 0:
        return 0
    offset = slot * at.PAGE_BYTES + (address & (at.PAGE_BYTES - 1))
    return shared[shared[at.MEMORY] + (offset >> 3)] >> ((offset & 6) * 8) & 0xFFFF


@jit
def _add_check(shared: Shared, first: int, offset: int, kind: int, form: int) -> None:
    """Append a check to those of a block, which begin at `first`, if none before says the same."""
    place = shared[at.CHECKS_USED]
    if place + 2 > at.CHECK_WORDS:
        return
    what = kind << at.CHECK_KIND_SHIFT | form >> CONSTANT_SHIFT << at.CHECK_FORM_SHIFT
    coefficients = form & 0xFFFF_FFFF
    for earlier in range(at.CHECKS + first, at.CHECKS + place, 2):
        if shared[earlier] & ~at.CHECK_OFFSET_MASK == what and shared[earlier + 1] == coefficients:
            return
    shared[at.CHECKS + place] = offset | what
    shared[at.CHECKS + place + 1] = coefficients
    shared[at.CHECKS_USED] = place + 2


@jit
def _add_checks(shared: Shared, first: int, offset: int, what: int) -> None:
    if what & USES_FPU:
        _add_check(shared, first, offset, at.CHECK_FPU_OFF, 0)
    if what & DOUBLE:
        _add_check(shared, first, offset, at.CHECK_DOUBLE, 0)
    if what & UNDEFINED:
        _add_check(shared, first, offset, at.CHECK_UNDEFINED, 0)
    form = shared[at.SCRATCH + ADDRESS]
    if what & WORD_ALIGNED and form > 0:  # neither unknown nor known to be aligned
        _add_check(shared, first, offset, at.CHECK_ALIGNMENT, form)


@jit
def _apply(shared: Shared, address: int, code: int) -> int:
    """Apply the instruction at `address` to the forms; return what to check before it."""
    if is_wide(code):
        second = halfword_at(shared, address + 2)
        distance = second & 0xFFF
        literal = ((address + 4) & ~3) + (distance if code & 0x80 else -distance)
        return wide(shared, code, second, constant(halfword_at(shared, literal)))
    literal = ((address + 4) & ~3) + (code & 0xFF) * 4
    return narrow(shared, code, constant(halfword_at(shared, literal)))


@jit
def _instructions_of_it_block(code: int) -> int:
    """Return how many instructions `code` makes conditional, 0 if it is not IT."""
    if code & 0xFF00 != 0xBF00 or not code & 0xF:
        return 0
    return 4 if code & 1 else 3 if code & 2 else 2 if code & 4 else 1


@jit
def analyse(shared: Shared, address: int, size: int) -> int:
    """Count the instructions of a block of `size` bytes and write its checks; return its record."""
    for register in range(at.REGISTERS):
        shared[at.SCRATCH + register] = 1 << (2 * register)
    shared[at.SCRATCH + SP] = 0
    shared[at.STACK_MOVED] = shared[at.STACK_WRITTEN] = 0
    place = shared[at.CHECKS_USED]
    shared[at.CHECKS_USED] = place + 1
    conditional = shared[at.BLOCK_RECORD] >> at.RECORD_CONDITIONAL_SHIFT & at.RECORD_CONDITIONAL_MASK
    count = 0
    offset = 0
    while offset < size:
        code = halfword_at(shared, address + offset)
        for register in range(at.REGISTERS):
            shared[at.BEFORE + register] = shared[at.SCRATCH + register]
        what = _apply(shared, address + offset, code)
        if conditional > 0:  # it may or may not run
            conditional -= 1
            for register in range(at.REGISTERS):
                if shared[at.SCRATCH + register] != shared[at.BEFORE + register]:
                    shared[at.SCRATCH + register] = UNKNOWN
        else:
            _add_checks(shared, place + 1, offset, what)
            conditional = _instructions_of_it_block(code)
        count += 1
        offset += 4 if is_wide(code) else 2
    words = shared[at.CHECKS_USED] - place
    if words == 1 or place + words + 2 > at.CHECK_WORDS:
        shared[at.CHECKS_USED] = place
        place = 0
    else:
        shared[at.CHECKS + place] = words >> 1
    return (
        size
        | count << at.RECORD_COUNT_SHIFT
        | conditional << at.RECORD_CONDITIONAL_SHIFT
        | place << at.RECORD_CHECKS_SHIFT
    )
