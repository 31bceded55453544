"""A firmware image: what an ELF file puts where, and what its addresses are called."""

from __future__ import annotations

import re
import shutil
import subprocess
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from common.errors import ConfigError
from converter.board import Board, Region

_FILTERS = ("arm-none-eabi-c++filt", "c++filt", "llvm-cxxfilt")


@dataclass(frozen=True)
class Function:
    """A function of the image; address without the Thumb bit, size in bytes."""

    address: int
    size: int
    symbol: str


@dataclass(frozen=True)
class Segment:
    """Bytes that are flashed at `load`, and stand at `run` once start-up code has copied them there."""

    load: int
    run: int
    data: bytes


def demangle(symbols: list[str]) -> dict[str, str]:
    """Map mangled C++ names to readable ones; with no c++filt around, at least plain nested names."""
    mangled = [symbol for symbol in symbols if symbol.startswith("_Z")]
    names = {symbol: symbol for symbol in symbols}
    program = next((path for name in _FILTERS if (path := shutil.which(name))), None)
    if program and mangled:
        answer = subprocess.run(
            [program], input="\n".join(mangled), capture_output=True, text=True, check=False
        )
        lines = answer.stdout.splitlines()
        if len(lines) == len(mangled):
            return names | dict(zip(mangled, lines, strict=True))
    return names | {symbol: _nested_name(symbol) for symbol in mangled}


def _nested_name(symbol: str) -> str:
    """Read the length-prefixed parts of `_ZN1a1bE...` or `_Z1a...`; anything else stays as it is."""
    start = re.match(r"_ZN?K?", symbol)
    rest = symbol[start.end() :] if start else ""
    parts: list[str] = []
    while number := re.match(r"\d+", rest):
        length = int(number.group())
        parts.append(rest[number.end() : number.end() + length])
        rest = rest[number.end() + length :]
        if not symbol.startswith("_ZN"):
            break
    return "::".join(parts) or symbol


@dataclass(frozen=True)
class Image:
    """The loadable parts of an ELF file, and its functions in address order."""

    path: Path
    segments: tuple[Segment, ...]
    functions: tuple[Function, ...]
    _addresses: list[int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_addresses", [function.address for function in self.functions])

    @cached_property
    def names(self) -> dict[str, str]:
        """Readable names of all symbols."""
        return demangle([function.symbol for function in self.functions])

    def divisions(self) -> list[int]:
        """Return where SDIV and UDIV stand when they run, with some constants that only look like them."""
        found = []
        for segment in self.segments:
            codes = np.frombuffer(segment.data[: len(segment.data) & ~1], "<u2")
            looks_right = (codes[:-1] & 0xFFD0 == 0xFB90) & (codes[1:] & 0xF0F0 == 0xF0F0)
            found += [segment.run + 2 * int(place) for place in np.flatnonzero(looks_right)]
        return found

    def function_at(self, address: int) -> Function | None:
        """Return the function that contains `address`."""
        place = bisect_right(self._addresses, address & ~1) - 1
        if place < 0:
            return None
        function = self.functions[place]
        following = self._addresses[place + 1] if place + 1 < len(self.functions) else None
        end = function.address + function.size if function.size else following
        return function if end is None or address < end else None

    def name_at(self, address: int) -> str | None:
        """Return the readable name of the function that contains `address`."""
        function = self.function_at(address)
        return self.names[function.symbol] if function else None

    def describe(self, address: int) -> str:
        """Return an address as `0x08000123 (function+0x10)`."""
        function = self.function_at(address)
        if function is None:
            return f"0x{address:08x}"
        offset = (address & ~1) - function.address
        return f"0x{address:08x} ({self.names[function.symbol]}+0x{offset:x})"


def _holds(region: Region, address: int, size: int) -> bool:
    return any(
        origin <= address and address + size <= origin + region.size
        for origin in (region.origin, *region.aliases)
    )


def load_image(board: Board, path: Path) -> Image:
    """Read an ELF file for `board`.

    Raises:
        ConfigError: the file cannot be read, is no ARM ELF file, or puts anything outside real memory.
    """
    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            if elf["e_machine"] != "EM_ARM" or elf.elfclass != 32:
                raise ConfigError(f"{path}: not a 32-bit ARM ELF file; build with --preset {board.name}")
            segments = _segments(board, path, elf)
            functions = _functions(elf)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (ELFError, ValueError, KeyError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: damaged ELF file: {error or type(error).__name__}") from error
    if not segments:
        raise ConfigError(f"{path}: holds nothing to load")
    return Image(path, segments, functions)


def _segments(board: Board, path: Path, elf: ELFFile) -> tuple[Segment, ...]:
    loaded: list[Segment] = []
    for segment in elf.iter_segments("PT_LOAD"):
        place, size = segment["p_paddr"], segment["p_filesz"]
        if size and not _holds(board.flash, place, size):
            raise ConfigError(
                f"{path}: {size} bytes are loaded at 0x{place:08x}, outside flash "
                f"(0x{board.flash.origin:08x} ... 0x{board.flash.end - 1:08x}): not an image for {board.name}"
            )
        run_place, run_size = segment["p_vaddr"], segment["p_memsz"]
        if run_size and not any(_holds(region, run_place, run_size) for region in _joined(board)):
            raise ConfigError(
                f"{path}: {run_size} bytes run at 0x{run_place:08x}, where {board.name} has no such memory"
            )
        if size:
            loaded.append(Segment(place, run_place, segment.data()))
    return tuple(loaded)


def _joined(board: Board) -> list[Region]:
    """Return the memories of the board, its contiguous RAM as one."""
    ram = board.ram
    whole = Region(name="ram", kind="ram", origin=ram[0].origin, size=board.ram_bytes)
    contiguous = all(left.end == right.origin for left, right in pairwise(ram))
    others = [region for region in board.memory if region.kind != "ram"]
    return [*others, whole] if contiguous else list(board.memory)


def _functions(elf: ELFFile) -> tuple[Function, ...]:
    found: dict[int, Function] = {}
    for section in elf.iter_sections():
        if not isinstance(section, SymbolTableSection):
            continue
        for symbol in section.iter_symbols():
            if symbol["st_info"]["type"] != "STT_FUNC" or symbol["st_shndx"] == "SHN_UNDEF":
                continue
            function = Function(symbol["st_value"] & ~1, symbol["st_size"], symbol.name)
            known = found.get(function.address)
            if known is None or (known.size, symbol.name) < (function.size, known.symbol):
                found[function.address] = function
    return tuple(found[address] for address in sorted(found))
