"""The Renode platform is as small as the chip."""

from __future__ import annotations

import re

from firmware_build import BOARD, REPOSITORY

from converter.board import load_board

RENODE = REPOSITORY / "board_tests" / "renode"
PERIPHERALS = (0x40000000, 0x60000000)


def mapped_memories() -> dict[str, tuple[set[int], int]]:
    text = (RENODE / "f746.repl").read_text()
    found = re.findall(r"^(\w+): Memory\.MappedMemory @ (.*)\n    size: (0x\w+)$", text, re.MULTILINE)
    return {
        name: ({int(address, 16) for address in re.findall(r"sysbus (0x\w+)", where)}, int(size, 16))
        for name, where, size in found
    }


def test_memories_are_those_of_the_board_description() -> None:
    board = load_board(BOARD)
    itcm = next(region for region in board.memory if region.kind == "itcm")
    memories = {
        name: memory
        for name, memory in mapped_memories().items()
        if not any(PERIPHERALS[0] <= address < PERIPHERALS[1] for address in memory[0])
    }
    assert memories == {
        "flash": ({board.flash.origin, *board.flash.aliases}, board.flash.size),
        "itcm": ({itcm.origin, *itcm.aliases}, itcm.size),
        "sram": ({board.ram[0].origin}, board.ram_bytes),
    }


def test_counter_counts_instructions() -> None:
    text = (RENODE / "f746.repl").read_text()
    mips = re.search(r"PerformanceInMips: (\d+)", text)
    frequency = re.search(r"Miscellaneous\.DWT @ sysbus 0xE0001000\n    frequency: (\d+)", text)
    assert mips is not None
    assert frequency is not None
    assert int(frequency[1]) == int(mips[1]) * 1_000_000


def test_nothing_is_fetched_from_the_network() -> None:
    for path in RENODE.iterdir():
        text = path.read_text()
        assert "http" not in text
        assert "SVD" not in text


def test_vector_table_is_not_guessed() -> None:
    script = (RENODE / "f746.resc").read_text()
    reset = re.search(r'macro reset\n"""\n(.*?)"""', script, re.DOTALL)
    assert reset is not None
    assert f"cpu VectorTableOffset 0x{load_board(BOARD).flash.origin:08X}" in reset[1]
    assert "sysbus LoadELF $bin" in reset[1]
