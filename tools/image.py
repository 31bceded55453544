"""How much of each memory an ELF image takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from common.errors import ConfigError
from converter.board import Board, Region
from tools.results import ImageMemory, RegionUse

# Sections of the linker script; what else lies in RAM counts as bss.
_ARENA, _STACK, _DATA = ".arena", ".stack", ".data"
# The generated source, whose constants are the model's.
_MODEL_SOURCE = "model.cc"


def image_memory(elf: Path, board: Board) -> ImageMemory:
    """What the image takes of the board's flash and RAM, from its sections and symbols.

    Raises:
        ConfigError: the file is absent or no ELF image.
    """
    with _open_elf(elf) as file:
        in_ram: dict[str, int] = {}
        used = {region.name: 0 for region in board.ram}
        for section in _allocated(file):
            start, size = section["sh_addr"], section["sh_size"]
            pieces = {region.name: _overlap(region, start, size) for region in board.ram}
            if any(pieces.values()):
                in_ram[section.name] = sum(pieces.values())
            for name, piece in pieces.items():
                used[name] += piece
        flash = _flash_bytes(file, board.flash)
        weights = _constants_bytes(file, board.flash)
    return ImageMemory(
        flash_budget=board.flash.size,
        weights=weights,
        code=flash - weights,
        arena=in_ram.pop(_ARENA, 0),
        stack_reserve=in_ram.pop(_STACK, 0),
        data=in_ram.pop(_DATA, 0),
        bss=sum(in_ram.values()),
        regions={region.name: RegionUse(used=used[region.name], size=region.size) for region in board.ram},
    )


@contextmanager
def _open_elf(path: Path) -> Iterator[ELFFile]:
    try:
        with path.open("rb") as stream:
            yield ELFFile(stream)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (ELFError, ValueError, KeyError) as error:
        raise ConfigError(f"{path}: no ELF image, or a damaged one ({error}); build it again") from error


def _allocated(file: ELFFile) -> Iterator[Any]:
    return (section for section in file.iter_sections() if section["sh_flags"] & SH_FLAGS.SHF_ALLOC)


def _symbols(file: ELFFile) -> Iterator[Any]:
    table = file.get_section_by_name(".symtab")
    return table.iter_symbols() if isinstance(table, SymbolTableSection) else iter(())


def _overlap(region: Region, start: int, size: int) -> int:
    return max(0, min(region.end, start + size) - max(region.origin, start))


def _flash_bytes(file: ELFFile, flash: Region) -> int:
    """Bytes of flash up to the last one that is loaded, gaps included."""
    ends = [
        segment["p_paddr"] + segment["p_filesz"]
        for segment in file.iter_segments("PT_LOAD")
        if segment["p_filesz"] and flash.origin <= segment["p_paddr"] < flash.end
    ]
    return max(ends, default=flash.origin) - flash.origin


def _constants_bytes(file: ELFFile, flash: Region) -> int:
    """Bytes of the model's constants: the objects in flash that are local to its source file.

    Source: System V ABI, chapter 4, "Symbol Table": a file's local symbols follow its STT_FILE symbol.
    """
    total = 0
    source = ""
    for symbol in _symbols(file):
        kind = symbol["st_info"]["type"]
        if symbol["st_info"]["bind"] != "STB_LOCAL":
            break
        if kind == "STT_FILE":
            source = symbol.name
        elif (
            source == _MODEL_SOURCE
            and kind == "STT_OBJECT"
            and flash.origin <= symbol["st_value"] < flash.end
        ):
            total += symbol["st_size"]
    return total
