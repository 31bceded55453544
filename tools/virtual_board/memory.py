"""The chip's memories and all that is counted per address, in the one array that native code shares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from unicorn import Uc
from unicorn.unicorn_const import UC_PROT_ALL, UC_PROT_EXEC, UC_PROT_READ

from common.errors import ConfigError
from converter.board import Board, Region
from tools.virtual_board.native import layout as at

_ALIGNMENT_WORDS = 512  # of the memories' contents in the host, a page
_ERASED = 0xFF
_UNWRITTEN_RAM = 0xA5  # RAM holds anything after power-up; zeros would hide firmware that relies on them


class BlockCount(NamedTuple):
    """How often the block at `address` ran; size in bytes."""

    address: int
    size: int
    instructions: int
    hits: int


class Memory:
    """The shared array: typed access to the chip's memories, the counters and the table of blocks."""

    def __init__(self, board: Board) -> None:
        for region in board.memory:
            if (region.origin | region.size) % at.PAGE_BYTES:
                raise ConfigError(
                    f"{board.name}: memory {region.name} is no multiple of {at.PAGE_BYTES} bytes"
                )
        slots = sum(region.size for region in board.memory) // at.PAGE_BYTES
        offset = at.memory_offset(slots)
        spare = np.zeros(at.total_words(slots) + _ALIGNMENT_WORDS, np.int64)
        skip = -(spare.ctypes.data // 8 + offset) % _ALIGNMENT_WORDS
        self.words: npt.NDArray[np.int64] = spare[skip : skip + at.total_words(slots)]
        self.words[at.MEMORY] = offset
        self.words[at.CHECKS_USED] = 1
        self.words[at.SCRATCH_ADDRESS] = self.address + 8 * at.SCRATCH
        self._bytes = self.words[offset:].view(np.uint8)
        self._pages = self.words[at.PAGE_TABLE : at.PAGE_TABLE + at.PAGES]
        self._pages[:] = at.NO_PAGE
        self._blocks = self.words[at.BLOCKS : offset].reshape(-1, at.BLOCK_WORDS)
        self._regions: list[tuple[Region, int]] = []
        self._register_pages = 0
        self._place_regions(board)

    def _place_regions(self, board: Board) -> None:
        slot = 0
        for region in sorted(board.memory, key=lambda region: region.kind != "flash"):
            pages = region.size // at.PAGE_BYTES
            for origin in (region.origin, *region.aliases):
                first = origin >> at.PAGE_SHIFT
                self._pages[first : first + pages] = np.arange(slot, slot + pages)
            start = slot * at.PAGE_BYTES
            self._regions.append((region, start))
            self._bytes[start : start + region.size] = _ERASED if region.kind == "flash" else _UNWRITTEN_RAM
            slot += pages
            if region.kind == "flash":
                self.words[at.WRITABLE_FROM] = slot

    @property
    def address(self) -> int:
        """Host address of the shared array."""
        return self.words.ctypes.data

    def map_into(self, unicorn: Uc) -> None:
        """Map the memories into an emulator; flash is read-only."""
        for region, offset in self._regions:
            access = _access(region)
            for origin in (region.origin, *region.aliases):
                unicorn.mem_map_ptr(origin, region.size, access, self._bytes.ctypes.data + offset)

    def normal_access(self, address: int) -> int:
        """Return the UC_PROT_* bits of the memory at `address`, 0 outside memory."""
        for region, _ in self._regions:
            if any(origin <= address < origin + region.size for origin in (region.origin, *region.aliases)):
                return _access(region)
        return 0

    def outside_ram(self) -> list[tuple[int, int]]:
        """Return the address ranges without data RAM: first and last address of each."""
        ranges = []
        start = 0
        for region in sorted((region for region, _ in self._regions), key=lambda region: region.origin):
            if region.kind == "ram":
                if start < region.origin:
                    ranges.append((start, region.origin - 1))
                start = region.end
        return [*ranges, (start, 0xFFFF_FFFF)]

    def allow_register(self, address: int) -> None:
        """Let accesses to the 32-bit register at `address` pass."""
        page = address >> at.PAGE_SHIFT
        if self._pages[page] == at.NO_PAGE:
            self._register_pages += 1
            assert self._register_pages <= at.REGISTER_PAGES
            self._pages[page] = -1 - self._register_pages
        register = (address & (at.PAGE_BYTES - 1)) >> 2
        word = at.REGISTER_BITMAPS + (-2 - int(self._pages[page])) * at.REGISTER_PAGE_WORDS + (register >> 6)
        self.words[word : word + 1].view(np.uint64)[:] |= np.uint64(1 << (register & 63))

    def offset_of(self, address: int, size: int) -> int | None:
        """Return the place of `size` bytes at `address` in the memories' contents; None outside memory."""
        first, last = address, address + size - 1
        if not 0 <= first <= last < 1 << 32:
            return None
        slot, last_slot = int(self._pages[first >> at.PAGE_SHIFT]), int(self._pages[last >> at.PAGE_SHIFT])
        if slot < 0 or last_slot - slot != (last >> at.PAGE_SHIFT) - (first >> at.PAGE_SHIFT):
            return None
        return slot * at.PAGE_BYTES + (first & (at.PAGE_BYTES - 1))

    def read(self, address: int, size: int) -> bytes | None:
        """Return `size` bytes of memory; None where any of them is outside."""
        offset = self.offset_of(address, size)
        return None if offset is None else self._bytes[offset : offset + size].tobytes()

    def write(self, address: int, data: bytes) -> bool:
        """Write to memory, flash included; return False where any byte is outside."""
        offset = self.offset_of(address, len(data))
        if offset is None:
            return False
        self._bytes[offset : offset + len(data)] = np.frombuffer(data, np.uint8)
        return True

    def read_word(self, address: int) -> int | None:
        """Return a 32-bit word; None outside memory."""
        data = self.read(address, 4)
        return None if data is None else int.from_bytes(data, "little")

    def is_writable(self, address: int) -> bool:
        """Tell whether the word at `address` is in RAM."""
        offset = self.offset_of(address, 4)
        return offset is not None and offset >= int(self.words[at.WRITABLE_FROM]) * at.PAGE_BYTES

    def instruction_bytes(self, address: int) -> int:
        """Return the size of the instruction at `address`, 2 or 4."""
        data = self.read(address, 2)
        return 4 if data is not None and int.from_bytes(data, "little") >= 0xE800 else 2

    def count_instructions(self, start: int, end: int) -> int:
        """Count the instructions from `start` to before `end`."""
        count = 0
        while start < end:
            start += self.instruction_bytes(start)
            count += 1
        return count

    def block_counts(self) -> Iterator[BlockCount]:
        """Yield the blocks that ran since the counters were reset."""
        for index in np.flatnonzero(self._blocks[:, 0]):
            hits, record = (int(word) for word in self._blocks[index])
            yield _block_count(self._address_of(int(index)), record, hits)
        used = int(self.words[at.DISPLACED_USED]) * at.DISPLACED_WORDS
        records = self.words[at.DISPLACED : at.DISPLACED + used]
        for address, record, hits in records.reshape(-1, at.DISPLACED_WORDS).tolist():
            yield _block_count(address, record, hits)

    def _address_of(self, halfword: int) -> int:
        offset = 2 * halfword
        region, start = next(
            (region, start) for region, start in self._regions if start <= offset < start + region.size
        )
        return region.origin + offset - start

    def restrict(self, number: int, start: int, end: int, allowed: int) -> None:
        """Set region `number` of the memory protection unit: start to before end, MPU_* bits."""
        place = at.MPU + number * at.MPU_WORDS
        self.words[place : place + at.MPU_WORDS] = (start, end, allowed)

    def is_forbidden(self, address: int, needed: int) -> bool:
        """Tell whether the memory protection unit refuses an access that needs the MPU_* bit `needed`."""
        regions = self.words[at.MPU : at.MPU + at.MPU_REGIONS * at.MPU_WORDS].reshape(-1, at.MPU_WORDS)
        matches = np.flatnonzero((regions[:, 0] <= address) & (address < regions[:, 1]))
        return bool(len(matches)) and not int(regions[matches[-1], 2]) & needed

    def reset_counts(self) -> None:
        """Forget how often blocks ran. The total goes on, for the chip's own counter comes from it."""
        self._blocks[:, 0] = 0
        self.words[at.DISPLACED_USED] = 0


def _access(region: Region) -> int:
    access: int = UC_PROT_READ | UC_PROT_EXEC if region.kind == "flash" else UC_PROT_ALL
    return access


def _block_count(address: int, record: int, hits: int) -> BlockCount:
    size = record & at.RECORD_SIZE_MASK
    return BlockCount(address, size, record >> at.RECORD_COUNT_SHIFT & at.RECORD_COUNT_MASK, hits)
