"""Images here are compiled by the test; GNU size and nm are the oracle."""

import shutil
import subprocess
from pathlib import Path

import pytest

from common.errors import ConfigError
from converter.board import load_board
from tools.image import image_memory

MODEL = """
#include <stdint.h>
namespace {
alignas(16) __attribute__((section(".arena"))) uint8_t arena[70000];
constexpr int8_t kWeights[3000] = {1, 2, 3};
constexpr int32_t kBias[25] = {1};
int calls;
}
namespace tinyboost { int layer(int i) { return kWeights[i] + kBias[i] + arena[i] + calls++; } }
"""
HARNESS = """
namespace tinyboost { int layer(int i); int counters[5] = {1, 2, 3, 4, 5}; int zeros[99]; }
extern "C" const char not_weights[64] = "x";
extern "C" __attribute__((noinline)) int helper(int i) {
  return tinyboost::counters[i] + tinyboost::zeros[i] + not_weights[i];
}
extern "C" void Reset_Handler() {
  volatile int v = helper(3) + tinyboost::layer(2);
  for (;;) { v = v + 1; }
}
"""
LINKER_SCRIPT = """
MEMORY { FLASH (rx) : ORIGIN = 0x08000000, LENGTH = 1024K  RAM (rwx) : ORIGIN = 0x20000000, LENGTH = 320K }
ENTRY(Reset_Handler)
SECTIONS {
  .text : { *(.text*) } > FLASH
  .rodata : { *(.rodata*) } > FLASH
  .stack (NOLOAD) : { . += 4096; } > RAM
  .data : { *(.data*) } > RAM AT > FLASH
  .bss (NOLOAD) : { *(.bss*) } > RAM
  .arena (NOLOAD) : { *(.arena*) } > RAM
  /DISCARD/ : { *(.ARM.exidx*) }
}
"""


@pytest.fixture(scope="module")
def elf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("arm-none-eabi-g++") is None:
        pytest.skip("arm-none-eabi-g++ is not installed")
    folder = tmp_path_factory.mktemp("image")
    (folder / "model.cc").write_text(MODEL)
    (folder / "harness.cc").write_text(HARNESS)
    (folder / "image.ld").write_text(LINKER_SCRIPT)
    options = (
        "-mcpu=cortex-m7 -mthumb -O1 -fno-exceptions -nostdlib -T image.ld -o image.elf harness.cc model.cc"
    )
    subprocess.run(["arm-none-eabi-g++", *options.split()], cwd=folder, check=True)
    return folder / "image.elf"


def test_memory_is_what_the_linker_placed(elf: Path) -> None:
    memory = image_memory(elf, load_board("stm32f746g_disco"))
    assert memory.weights == 3000 + 25 * 4
    assert (memory.arena, memory.stack_reserve, memory.data, memory.bss) == (70_000, 4096, 20, 400)
    loaded = subprocess.run(["arm-none-eabi-size", elf], capture_output=True, text=True, check=True).stdout
    text, data, _ = (int(field) for field in loaded.splitlines()[1].split()[:3])
    assert memory.flash.total == text + data
    assert memory.flash.code == text + data - 3100
    assert memory.flash.budget == 1 << 20
    arena_start = -(-(4096 + 20 + 400) // 16) * 16
    used = {name: region.used for name, region in memory.regions.items()}
    assert used["sram1"] == arena_start + 70_000 - 64 * 1024
    assert used["dtcm"] == 4096 + 20 + 400 + 70_000 - used["sram1"]
    assert used["sram2"] == 0


def test_ram_counts_the_measured_stack_or_its_reservation(elf: Path) -> None:
    memory = image_memory(elf, load_board("stm32f746g_disco"))
    assert memory.ram().total == 70_000 + 420 + 4096
    assert memory.ram(stack_used=900).total == 70_000 + 420 + 900
    assert memory.ram().budget == 320 * 1024


def test_damaged_images_are_refused(elf: Path, tmp_path: Path) -> None:
    board = load_board("stm32f746g_disco")
    with pytest.raises(ConfigError, match="cannot be read"):
        image_memory(tmp_path / "absent.elf", board)
    damaged = tmp_path / "damaged.elf"
    for content in (b"", b"no elf", elf.read_bytes()[:60], elf.read_bytes()[:3000]):
        damaged.write_bytes(content)
        with pytest.raises(ConfigError, match="no ELF image"):
            image_memory(damaged, board)
