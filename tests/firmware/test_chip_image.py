"""The image for the STM32F746: what lies where, how much of it, and what must not be in it."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from firmware_build import BOARD, FIRMWARE, build, built, configure

from converter.board import load_board

BOARD_DIR = FIRMWARE / "boards" / BOARD
INTERRUPTS = 98  # RM0385, table 46

# A model of which only the memory that it takes matters; code in ITCM.
MODEL = """
#include "engine/engine.h"
namespace tinyboost::engine {{
namespace {{
alignas(16) __attribute__((section(".arena"))) uint8_t arena[{arena}];
const uint8_t weights[{weights}] = {{1}};
const Tensor tensors[] = {{{{arena, 1}}}};
const Model the_model = {{tensors, 1, tensors, 1, 0, sizeof(arena), ""}};
__attribute__((section(".itcm"), noinline, long_call)) void compute(volatile uint8_t* at) {{
  *at = static_cast<uint8_t>(*at + weights[*at]);
}}
}}
const Model& model() {{ return the_model; }}
Status initialise() {{ return Status::kOk; }}
Status invoke(LayerHook) {{
  compute(arena);
  return Status::kOk;
}}
}}
"""


@contextmanager
def opened(path: Path) -> Iterator[ELFFile]:
    with path.open("rb") as stream:
        yield ELFFile(stream)


@pytest.fixture(scope="module")
def elf(chip_build: Path) -> Iterator[ELFFile]:
    with opened(chip_build / "firmware.elf") as file:
        yield file


def symbols(elf: ELFFile) -> dict[str, int]:
    table: Any = elf.get_section_by_name(".symtab")
    return {symbol.name: symbol["st_value"] for symbol in table.iter_symbols() if symbol.name}


def model_dir(folder: Path, arena: int, weights: int) -> Path:
    folder.mkdir()
    (folder / "model.cc").write_text(MODEL.format(arena=arena, weights=weights))
    return folder


def test_linker_script_has_the_memories_of_the_board_description() -> None:
    board = load_board(BOARD)
    text = (BOARD_DIR / "linker.ld").read_text()
    found = re.findall(r"(\w+)\s*\(\w+\)\s*:\s*ORIGIN = (0x\w+), LENGTH = (\d+)K", text)
    memories = {name: (int(origin, 16), int(length) * 1024) for name, origin, length in found}
    itcm = next(region for region in board.memory if region.kind == "itcm")
    assert memories == {
        "FLASH": (board.flash.origin, board.flash.size),
        "ITCM": (itcm.origin, itcm.size),
        "RAM": (board.ram[0].origin, board.ram_bytes),
    }
    for region, following in zip(board.ram, board.ram[1:], strict=False):
        assert region.end == following.origin
    dtcm = re.search(r"__dtcm_end = ORIGIN\(RAM\) \+ (\d+)K", text)
    assert dtcm is not None
    assert int(dtcm[1]) * 1024 == board.ram[0].size


def test_sections_stand_in_their_memories_in_order(elf: ELFFile) -> None:
    board = load_board(BOARD)
    address = {section.name: section["sh_addr"] for section in elf.iter_sections() if section["sh_size"]}
    assert address[".vectors"] == board.flash.origin
    assert board.flash.origin < address[".text"] < address[".rodata"] < board.flash.end
    assert address[".stack"] == board.ram[0].origin
    stack = elf.get_section_by_name(".stack")
    assert stack is not None
    assert stack["sh_size"] == board.stack.reserve
    assert address[".stack"] + board.stack.reserve == address[".bss"]
    assert address[".bss"] < address[".noinit"] < address[".arena"] < board.ram[-1].end


def test_only_what_stands_in_flash_is_loaded(elf: ELFFile) -> None:
    flash = load_board(BOARD).flash
    for segment in elf.iter_segments("PT_LOAD"):
        assert segment["p_filesz"] == segment["p_memsz"]
        if segment["p_filesz"]:
            assert flash.origin <= segment["p_paddr"]
            assert segment["p_paddr"] + segment["p_filesz"] <= flash.end


def test_harness_takes_little_memory(elf: ELFFile) -> None:
    sizes = {section.name: section["sh_size"] for section in elf.iter_sections()}
    assert sizes[".data"] + sizes[".bss"] + sizes[".noinit"] <= 512
    assert sizes[".vectors"] + sizes[".text"] + sizes[".rodata"] <= 8192


def test_no_heap_no_stdio_no_unwinder(elf: ELFFile) -> None:
    forbidden = re.compile(
        r"_?(malloc|free|realloc|calloc|sbrk|printf|puts|fwrite|exit|abort)(_r)?"
        r"|__cxa_\w+|__gxx_\w+|_Unwind_\w+|_Znwj|_ZdlPv\w*|__assert_func|__aeabi_d\w+"
    )
    assert [name for name in symbols(elf) if forbidden.fullmatch(name)] == []
    init_array = elf.get_section_by_name(".init_array")
    assert init_array is None or init_array["sh_size"] == 0


def test_vectors_lead_to_reset_and_the_fault_handler(elf: ELFFile) -> None:
    section = elf.get_section_by_name(".vectors")
    assert section is not None
    stack, reset, *others = struct.unpack(f"<{section['sh_size'] // 4}I", section.data())
    names = symbols(elf)
    assert stack == names["__stack_top"]
    assert reset == names["Reset_Handler"]
    assert len(others) == 14 + INTERRUPTS
    assert set(others) == {names["fault_entry"]}
    assert reset & names["fault_entry"] & 1, "Thumb"


def test_binary_is_what_the_image_puts_into_flash(chip_build: Path, elf: ELFFile) -> None:
    origin = load_board(BOARD).flash.origin
    binary = (chip_build / "firmware.bin").read_bytes()
    for segment in elf.iter_segments("PT_LOAD"):
        at = segment["p_paddr"] - origin
        if segment["p_filesz"]:
            assert binary[at : at + segment["p_filesz"]] == segment.data()
    assert len(binary) == symbols(elf)["__flash_used"]
    for name in ("firmware.hex", "firmware.map", "firmware.size.txt"):
        assert (chip_build / name).stat().st_size > 0


def test_the_same_sources_give_the_same_image(tmp_path: Path) -> None:
    one, other = (built(BOARD, tmp_path / name) / "firmware.bin" for name in ("here", "elsewhere"))
    assert one.read_bytes() == other.read_bytes()


def test_an_arena_may_take_all_that_is_left(tmp_path: Path) -> None:
    board = load_board(BOARD)
    rest = board.ram_bytes - board.stack.reserve - 512
    folder = built(BOARD, tmp_path / "build", model_dir(tmp_path / "model", rest, 4))
    with opened(folder / "firmware.elf") as elf:
        assert symbols(elf)["__spare_start"] <= symbols(elf)["__ram_end"]
        itcm = elf.get_section_by_name(".itcm")
        assert itcm is not None
        assert itcm["sh_size"] > 0
        # Null pointers must fault: nothing stands in the first bytes.
        assert itcm["sh_addr"] == 256


@pytest.mark.parametrize(
    ("region", "arena", "weights"), [("RAM", 320 * 1024 - 4096, 4), ("FLASH", 16, 1024 * 1024)]
)
def test_an_image_that_does_not_fit_fails_to_link(
    tmp_path: Path, region: str, arena: int, weights: int
) -> None:
    done = build(BOARD, tmp_path / "build", model_dir(tmp_path / "model", arena, weights))
    assert done.returncode != 0
    assert re.search(rf"region `{region}' overflowed by \d+ bytes", done.stdout + done.stderr)
    assert not (tmp_path / "build" / "firmware.elf").exists()


@pytest.mark.parametrize(
    ("definitions", "message"),
    [
        ((), "TINYBOOST_MODEL_DIR='' holds no model.cc"),
        (("TINYBOOST_MODEL_DIR=/nowhere",), "TINYBOOST_MODEL_DIR='/nowhere' holds no model.cc"),
        (("TINYBOOST_MODEL_DIR={model}", "TINYBOOST_BOARD=nucleo"), "TINYBOOST_BOARD='nucleo' is no folder"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, definitions: tuple[str, ...], message: str) -> None:
    model = FIRMWARE / "tests" / "fake_model"
    filled = [definition.format(model=model) for definition in definitions]
    done = configure("host", tmp_path / "build", *filled)
    assert done.returncode != 0
    assert message in " ".join(done.stderr.split())
