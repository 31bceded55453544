"""From addresses to source, by the DWARF of an image: functions that were inlined there, file and line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from elftools.elf.elffile import ELFFile

_SCOPES = ("DW_TAG_subprogram", "DW_TAG_inlined_subroutine")


@dataclass(frozen=True)
class Place:
    """Where an instruction comes from; functions: from the called one to the innermost inlined one."""

    functions: tuple[str, ...] = ()
    file: str = ""
    line: int = 0


def places(elf: Path, addresses: Sequence[int], sources: Sequence[str]) -> dict[int, Place]:
    """Place of each address that debug information tells something of.

    Args:
        elf: an image with DWARF.
        addresses: of instructions.
        sources: names of the compilation units to read, without folders; others cost time and tell nothing.

    Source: DWARF 5, sections 2.17, 3.3.8 and 6.2.
    """
    wanted = np.unique(np.asarray(addresses, np.int64))
    chains: list[list[str]] = [[] for _ in wanted]
    lines: dict[int, tuple[str, int]] = {}
    with elf.open("rb") as stream:
        file = ELFFile(stream)
        if not file.has_dwarf_info():
            return {}
        dwarf = file.get_dwarf_info()
        for unit in dwarf.iter_CUs():
            name = unit.get_top_DIE().attributes["DW_AT_name"].value.decode(errors="replace")
            if name.rpartition("/")[2] in sources:
                _add_functions(dwarf, unit, wanted, chains)
                _add_lines(dwarf, unit, wanted, lines)
    return {
        int(address): Place(tuple(chain), *lines.get(int(address), ("", 0)))
        for address, chain in zip(wanted, chains, strict=True)
        if chain
    }


def _add_functions(dwarf: Any, unit: Any, wanted: Any, chains: list[list[str]]) -> None:
    # Depth first, so that a function comes before what is inlined into it.
    for die in unit.iter_DIEs():
        if die.tag not in _SCOPES:
            continue
        name = None
        for begin, end in _ranges(dwarf, unit, die):
            for index in range(*np.searchsorted(wanted, (begin, end))):
                name = name or _name(die)
                chains[index].append(name)


def _ranges(dwarf: Any, unit: Any, die: Any) -> Iterator[tuple[int, int]]:
    attributes = die.attributes
    if "DW_AT_ranges" in attributes:
        entries = dwarf.range_lists().get_range_list_at_offset(attributes["DW_AT_ranges"].value, unit)
        top = unit.get_top_DIE().attributes
        base = top["DW_AT_low_pc"].value if "DW_AT_low_pc" in top else 0
        for entry in entries:
            if hasattr(entry, "base_address"):
                base = entry.base_address
            else:
                offset = 0 if entry.is_absolute else base
                yield entry.begin_offset + offset, entry.end_offset + offset
    elif "DW_AT_low_pc" in attributes and "DW_AT_high_pc" in attributes:
        start, size = attributes["DW_AT_low_pc"].value, attributes["DW_AT_high_pc"]
        yield start, size.value if size.form == "DW_FORM_addr" else start + size.value


def _name(die: Any) -> str:
    """Name without template arguments; it may stand with the declaration."""
    while "DW_AT_name" not in die.attributes:
        link = next(
            (key for key in ("DW_AT_abstract_origin", "DW_AT_specification") if key in die.attributes), None
        )
        if link is None:
            return "?"
        die = die.get_DIE_from_attribute(link)
    name: str = die.attributes["DW_AT_name"].value.decode(errors="replace")
    return name.partition("<")[0] or name


def _add_lines(dwarf: Any, unit: Any, wanted: Any, lines: dict[int, tuple[str, int]]) -> None:
    program = dwarf.line_program_for_CU(unit)
    files = program["file_entry"]
    first = 0 if program["version"] >= 5 else 1
    before = None
    for entry in program.get_entries():
        state = entry.state
        if state is None:
            continue
        if before is not None:
            name = files[before.file - first].name.decode(errors="replace")
            for index in range(*np.searchsorted(wanted, (before.address, state.address))):
                lines[int(wanted[index])] = (name, before.line)
        before = None if state.end_sequence else state
