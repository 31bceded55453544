"""The callbacks that Unicorn calls natively.

Importing this module imports Numba and compiles, which takes seconds; `native.library` keeps the result.
"""

from __future__ import annotations

from typing import Any

from numba import int64, types
from unicorn import unicorn_const as const

from tools.virtual_board.native import layout as at
from tools.virtual_board.native.affine import CONSTANT_SHIFT, STACK_FLAG, STACK_MASK, STACK_SHIFT
from tools.virtual_board.native.analysis import analyse, halfword_at
from tools.virtual_board.native.decode import SP
from tools.virtual_board.native.jit import Shared, callback, jit

_SHARED = types.CPointer(types.int64)
_emu_stop = types.ExternalFunction("uc_emu_stop", types.int32(types.voidptr))
_reg_read = types.ExternalFunction("uc_reg_read", types.int32(types.voidptr, types.int32, types.int64))
_context_save = types.ExternalFunction("uc_context_save", types.int32(types.voidptr, types.int64))
CODE_SIGNATURE = types.void(types.voidptr, types.uint64, types.uint32, _SHARED)
REGISTER_WRITE_SIGNATURE = types.void(types.voidptr, types.uint64, types.uint32, types.uint64, _SHARED)
TRANSLATION_SIGNATURE = types.boolean(types.voidptr, types.uint64, types.int32, _SHARED, _SHARED)
REGISTER_READ_SIGNATURE = types.uint64(types.voidptr, types.uint64, types.uint32, _SHARED)
ACCESS_SIGNATURE = types.boolean(types.voidptr, types.int32, types.uint64, types.int32, types.int64, _SHARED)

_read_in_python = types.ExternalFunction("virtual_board_read_uart", REGISTER_READ_SIGNATURE)

_READ = (const.UC_MEM_READ_UNMAPPED, const.UC_MEM_READ_PROT)
_WRITE = (const.UC_MEM_WRITE_UNMAPPED, const.UC_MEM_WRITE_PROT)
_FETCH = (const.UC_MEM_FETCH_UNMAPPED, const.UC_MEM_FETCH_PROT)


@jit
def _register(unicorn: Any, shared: Shared, register: int) -> int:
    """Return the value of r0 ... r14."""
    _reg_read(unicorn, shared[at.REGISTER_IDS + register], shared[at.SCRATCH_ADDRESS])
    return shared[at.SCRATCH] & 0xFFFF_FFFF


@jit
def _new_record(shared: Shared, block: int, address: int, size: int) -> int:
    """Write the record of a block seen for the first time; put aside the one that stood in its place."""
    if shared[block] and shared[at.DISPLACED_USED] < at.DISPLACED_RECORDS:
        displaced = at.DISPLACED + shared[at.DISPLACED_USED] * at.DISPLACED_WORDS
        shared[displaced] = address
        shared[displaced + 1] = shared[block + 1]
        shared[displaced + 2] = shared[block]
        shared[at.DISPLACED_USED] += 1
    record = analyse(shared, address, size)
    shared[block] = 0
    shared[block + 1] = record
    return record


@jit
def _remainder(unicorn: Any, shared: Shared, check: int, form: int) -> int:
    """Evaluate a form modulo 4 with the present values of registers and stack."""
    constant_and_stack = check >> at.CHECK_FORM_SHIFT
    value = constant_and_stack & 3
    if constant_and_stack << CONSTANT_SHIFT & STACK_FLAG:
        offset = constant_and_stack << CONSTANT_SHIFT >> STACK_SHIFT & STACK_MASK
        value += halfword_at(shared, (_register(unicorn, shared, SP) + offset) & 0xFFFF_FFFC)
    for register in range(at.REGISTERS):
        coefficient = form >> (2 * register) & 3
        if coefficient:
            value += coefficient * _register(unicorn, shared, register)
    return value & 3


@jit
def _violated(unicorn: Any, shared: Shared, address: int, place: int) -> bool:
    """Evaluate the checks of a block; on a violation note the instruction and the kind."""
    for number in range(shared[at.CHECKS + place]):
        check = shared[at.CHECKS + place + 1 + 2 * number]
        kind = check >> at.CHECK_KIND_SHIFT & at.CHECK_KIND_MASK
        if kind == at.CHECK_ALIGNMENT:
            bad = _remainder(unicorn, shared, check, shared[at.CHECKS + place + 2 + 2 * number]) != 0
        else:
            bad = kind != at.CHECK_FPU_OFF or shared[at.FPU_OFF] != 0
        if bad:
            shared[at.STOP_ADDRESS] = address + (check & at.CHECK_OFFSET_MASK)
            shared[at.STOP_CHECK_KIND] = kind
            return True
    return False


@callback(CODE_SIGNATURE)
def on_block(unicorn: Any, block_address: int, block_size: int, shared: Shared) -> None:
    """Count a block that is about to run, or stop before it."""
    if shared[at.TOTAL] >= shared[at.LIMIT]:
        shared[at.STOP_REASON] = at.STOP_LIMIT
        _emu_stop(unicorn)
        return
    address = int64(block_address)
    size = int64(block_size)
    page = shared[at.PAGE_TABLE + (address >> at.PAGE_SHIFT)]
    if page < 0:  # a fetch that is about to fail
        return
    halfword = page * at.PAGE_HALFWORDS + ((address & (at.PAGE_BYTES - 1)) >> 1)
    block = at.BLOCKS + halfword * at.BLOCK_WORDS
    record = shared[block + 1]
    if record & at.RECORD_SIZE_MASK != size:
        record = _new_record(shared, block, address, size)
    place = record >> at.RECORD_CHECKS_SHIFT
    if place and not shared[at.CHECKS_OFF] and _violated(unicorn, shared, address, place):
        shared[at.STOP_REASON] = at.STOP_CHECK
        _emu_stop(unicorn)
        return
    shared[block] += 1
    shared[at.TOTAL] += record >> at.RECORD_COUNT_SHIFT & at.RECORD_COUNT_MASK
    shared[at.BLOCK_ADDRESS] = address
    shared[at.BLOCK_RECORD] = record


@callback(CODE_SIGNATURE)
def on_division(unicorn: Any, instruction_address: int, _size: int, shared: Shared) -> None:
    """Stop at a division by zero; called at SDIV and UDIV while CCR traps them."""
    address = int64(instruction_address)
    first = halfword_at(shared, address)
    second = halfword_at(shared, address + 2)
    is_division = first & 0xFFD0 == 0xFB90 and second & 0xF0F0 == 0xF0F0
    if is_division and _register(unicorn, shared, second & 15) == 0:
        shared[at.STOP_REASON] = at.STOP_CHECK
        shared[at.STOP_CHECK_KIND] = at.CHECK_DIVISION
        shared[at.STOP_ADDRESS] = address
        _emu_stop(unicorn)


@jit
def _mpu_allows(shared: Shared, address: int, kind: int) -> bool:
    """Ask the memory protection unit: of overlapping regions the one with the highest number decides."""
    for number in range(at.MPU_REGIONS):
        region = at.MPU + (at.MPU_REGIONS - 1 - number) * at.MPU_WORDS
        if shared[region] <= address < shared[region + 1]:
            needed = at.MPU_READ if kind in _READ else at.MPU_WRITE if kind in _WRITE else at.MPU_EXECUTE
            return shared[region + 2] & needed != 0
    return True


@jit
def _is_allowed(shared: Shared, address: int, kind: int) -> bool:
    page = shared[at.PAGE_TABLE + (address >> at.PAGE_SHIFT)]
    if page == at.NO_PAGE or not _mpu_allows(shared, address, kind):
        return False
    if page >= 0:
        return page >= shared[at.WRITABLE_FROM] or kind not in _WRITE
    if kind in _FETCH:
        return False
    register = (address & (at.PAGE_BYTES - 1)) >> 2
    word = at.REGISTER_BITMAPS + (-2 - page) * at.REGISTER_PAGE_WORDS + (register >> 6)
    return shared[word] >> (register & 63) & 1 != 0


@callback(ACCESS_SIGNATURE)
def on_refused_access(  # noqa: PLR0917 (Unicorn's signature)
    unicorn: Any, kind: int, access_address: int, size: int, value: int, shared: Shared
) -> bool:
    """Decide on accesses to pages that are not freely accessible; note the first that must fail.

    Pages with registers and the shadows of pages that the MPU restricts are mapped without permissions, so
    that Unicorn asks here. Before it does, it brings the program counter up to date, which it does not for
    registers otherwise: the cycle counter needs that.
    """
    address = int64(access_address) & 0xFFFF_FFFF  # that of a shadow page is above
    if _is_allowed(shared, address, kind):
        return True
    if shared[at.ACCESS_KIND] == 0:
        shared[at.ACCESS_KIND] = kind
        shared[at.ACCESS_ADDRESS] = address
        shared[at.ACCESS_SIZE] = size
        shared[at.ACCESS_VALUE] = value
        _context_save(unicorn, shared[at.CONTEXT])
    return False


@jit
def _is_restricted(shared: Shared, page_address: int) -> bool:
    """Tell whether the memory protection unit has a say in a page of Unicorn's."""
    for number in range(at.MPU_REGIONS):
        region = at.MPU + number * at.MPU_WORDS
        overlaps = shared[region] < page_address + at.SHADOW_PAGE_BYTES and page_address < shared[region + 1]
        if overlaps and shared[region + 2] != at.MPU_READ | at.MPU_WRITE | at.MPU_EXECUTE:
            return True
    return False


@callback(TRANSLATION_SIGNATURE)
def on_translation(_unicorn: Any, virtual: int, kind: int, entry: Shared, shared: Shared) -> bool:
    """Fill Unicorn's translation cache: `entry` takes a physical address and permissions.

    Data accesses get no permission to execute: Unicorn stores fifty times slower where there is one.
    """
    address = int64(virtual)
    page = shared[at.PAGE_TABLE + (address >> at.PAGE_SHIFT)]
    is_data = kind != const.UC_MEM_FETCH
    entry[0] = address
    entry[1] = const.UC_PROT_ALL
    if page >= 0 and is_data:
        entry[1] = const.UC_PROT_READ | const.UC_PROT_WRITE
        if _is_restricted(shared, address & -at.SHADOW_PAGE_BYTES):
            entry[0] = at.SHADOW + address
    return True


@callback(REGISTER_READ_SIGNATURE)
def on_shadow_read(_unicorn: Any, offset: int, size: int, shared: Shared) -> int:
    """Read memory through its shadow."""
    address = int64(offset)
    value = 0
    for place in range(int64(size)):
        code = halfword_at(shared, address + place)
        value |= (code >> (((address + place) & 1) * 8) & 0xFF) << (8 * place)
    return value


@callback(REGISTER_WRITE_SIGNATURE)
def on_shadow_write(_unicorn: Any, offset: int, size: int, value: int, shared: Shared) -> None:
    """Write RAM through its shadow."""
    address = int64(offset)
    for place in range(int64(size)):
        byte = int64(value) >> (8 * place) & 0xFF
        slot = shared[at.PAGE_TABLE + ((address + place) >> at.PAGE_SHIFT)]
        position = slot * at.PAGE_BYTES + ((address + place) & (at.PAGE_BYTES - 1))
        word = shared[at.MEMORY] + (position >> 3)
        shift = (position & 7) * 8
        shared[word] = shared[word] & ~(0xFF << shift) | byte << shift


@jit
def _byte_arrives(shared: Shared) -> bool:
    """Let the next byte into the data register; False where Python must look at what happens."""
    if shared[at.UART_TAIL] == shared[at.UART_HEAD]:
        return False
    now = shared[at.TOTAL]
    due = shared[at.UART_TIME] + shared[at.UART_BYTE_TIME]
    time = now if shared[at.UART_BURST] else min(now, due)
    if time + shared[at.UART_BYTE_TIME] <= now:  # it may have been run over
        return False
    shared[at.UART_TIME] = time
    shared[at.UART_BURST] = 0
    shared[at.UART_FULL] = 1
    return True


@callback(REGISTER_READ_SIGNATURE)
def on_uart_read(unicorn: Any, offset: int, size: int, shared: Shared) -> int:
    """Answer reads of the UART's status and data while bytes come in; leave the rest to Python."""
    if shared[at.UART_QUICK]:
        if offset == at.UART_ISR and (shared[at.UART_FULL] or _byte_arrives(shared)):
            now_or_never = shared[at.UART_TIME] + shared[at.UART_BYTE_TIME]
            if shared[at.TOTAL] < now_or_never:
                return shared[at.UART_STATUS] | at.UART_RXNE
        elif offset == at.UART_RDR and shared[at.UART_FULL]:
            byte = shared[at.UART_RING + (shared[at.UART_TAIL] & (at.UART_RING_BYTES - 1))]
            shared[at.UART_TAIL] += 1
            shared[at.UART_FULL] = 0
            return byte
    value: int = _read_in_python(unicorn, offset, size, shared)
    return value
