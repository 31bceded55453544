"""The callbacks that play the chip's caches and its branch prediction while firmware runs."""

from __future__ import annotations

from typing import Any

from numba import int64, types
from unicorn import unicorn_const as const

from tools.virtual_board.native import trace_layout as at
from tools.virtual_board.native.jit import Shared, callback, jit

WORD_BYTES = 4
_SHARED = types.CPointer(types.int64)
BLOCK_SIGNATURE = types.void(types.voidptr, types.uint64, types.uint32, _SHARED)
ACCESS_SIGNATURE = types.void(types.voidptr, types.int32, types.uint64, types.int32, types.int64, _SHARED)


@jit
def _replaced_way(trace: Shared, ways: int) -> int:
    """Choose pseudo-randomly, as Arm's caches do; the same sequence in every trace."""
    trace[at.RANDOM] = (trace[at.RANDOM] * 1103515245 + 12345) & 0x7FFF_FFFF
    return (trace[at.RANDOM] >> 16) & (ways - 1)


@jit
def _look_up(trace: Shared, first: int, ways: int, line: int) -> int:
    """Find the place of a line among the ways of its set, from `first` on; take it in where it is absent.

    Returns the place, negated where the line is new.
    """
    for way in range(ways):
        if trace[first + way] & ~at.DIRTY == line:
            return first + way
    for way in range(ways):
        if trace[first + way] == 0:
            trace[first + way] = line
            return -(first + way)
    place = first + _replaced_way(trace, ways)
    trace[at.WRITE_BACKS] += (trace[place] & at.DIRTY) != 0
    trace[place] = line
    return -place


@jit
def _predict(trace: Shared, address: int) -> None:
    """Count a mistake where the predictor takes the end of the last block for another way to go on."""
    end = trace[at.BLOCK_END]
    taken = address != end
    entry = at.BRANCHES + ((end >> 1) & (at.BRANCH_SETS - 1)) * at.BRANCH_WORDS
    known = trace[entry] == end
    expected = known and trace[entry + 2] >= at.LIKELY
    if taken:
        wrong = not expected or trace[entry + 1] != address
        trace[entry + 2] = min(trace[entry + 2] + 1, at.SURE) if known else at.LIKELY
        trace[entry] = end
        trace[entry + 1] = address
    else:
        wrong = expected
        if known and trace[entry + 2] > 0:
            trace[entry + 2] -= 1
    trace[at.MISPREDICTIONS] += wrong


@callback(BLOCK_SIGNATURE)
def on_traced_block(_unicorn: Any, block_address: int, size: int, trace: Shared) -> None:
    """Fetch a block."""
    address = int64(block_address)
    end = address + int64(size)
    if trace[at.BLOCK_END]:
        _predict(trace, address)
    trace[at.BLOCK_END] = end
    if trace[at.FLASH_START] <= address < trace[at.FLASH_END]:
        for line in range(address >> at.LINE_SHIFT, ((end - 1) >> at.LINE_SHIFT) + 1):
            first = at.CODE_CACHE + (line & (at.CODE_SETS - 1)) * at.CODE_WAYS
            trace[at.CODE_FILLS] += _look_up(trace, first, at.CODE_WAYS, line) < 0


@callback(ACCESS_SIGNATURE)
def on_traced_access(
    _unicorn: Any, kind: int, access_address: int, size: int, _value: int, trace: Shared
) -> None:
    """Load or store."""
    address = int64(access_address)
    stores = kind == const.UC_MEM_WRITE
    if not stores and address & (min(size, WORD_BYTES) - 1):
        trace[at.UNALIGNED_LOADS] += 1
    from_flash = trace[at.FLASH_START] <= address < trace[at.FLASH_END]
    if not from_flash and not trace[at.RAM_START] <= address < trace[at.RAM_END]:
        return
    line = address >> at.LINE_SHIFT
    first = at.DATA_CACHE + (line & (at.DATA_SETS - 1)) * at.DATA_WAYS
    place = _look_up(trace, first, at.DATA_WAYS, line)
    if place < 0:
        fill = at.CONSTANT_FILLS if from_flash else at.STORE_FILLS if stores else at.DATA_FILLS
        trace[fill] += 1
        place = -place
    if stores:
        trace[place] |= at.DIRTY
