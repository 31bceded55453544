"""The cycle estimate follows the published rules of the core, and plays caches that behave like caches."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from functools import cache

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st
from virtual_firmware import BOARD, assemble, run_assembly

from tools.virtual_board.board import VirtualBoard
from tools.virtual_board.cycles import FLASH_FILL, MISPREDICTION, estimate
from tools.virtual_board.memory import BlockCount
from tools.virtual_board.pipeline import time_block
from tools.virtual_board.trace import Events

LINE = 32
CACHE = 4096


@cache
def machine_code(text: str) -> bytes:
    """Assemble a few instructions."""
    compiler = shutil.which("arm-none-eabi-gcc")
    if compiler is None:
        pytest.skip("arm-none-eabi-gcc is not installed")
    source = f".syntax unified\n.cpu cortex-m7\n.fpu fpv5-sp-d16\n.thumb\n{text}\n"
    with tempfile.NamedTemporaryFile(suffix=".o") as file:
        command = [compiler, "-c", "-x", "assembler", "-", "-o", file.name]
        subprocess.run(command, input=source.encode(), capture_output=True, check=True)
        code: bytes = ELFFile(file).get_section_by_name(".text").data()
    return code


def cycles(text: str) -> float:
    return sum(time_block(machine_code(text)))


# What the sources named in `pipeline` measured, or what follows from it: cycles of the whole block.
RULES = {
    "two ALU operations issue together": ("add r0, r0, r1\n eor r2, r2, r3", 1),
    "eight of them take four cycles": ("\n".join(f"add r{i}, r{i}, #1" for i in range(8)), 4),
    "a carry chain goes one at a time": ("adcs r0, r1\n adcs r2, r3", 2),
    "the early ALU feeds the late one at once": ("add r0, r1, r2\n eor r3, r0, r4", 1),
    "the late ALU feeds nothing at once": ("eor r0, r1, r2\n eor r3, r0, r4", 2),
    "MOVW and MOVT make a pair": ("movw r0, #1\n movt r0, #2", 1),
    "two shifted operands do not": ("add r0, r0, r1, lsl #2\n add r2, r2, r3, lsl #2", 2),
    "two shifted constants do not": ("eor r0, r0, #0x1fc0\n eor r1, r1, #0x1fc0", 2),
    "two patterns of bytes do": ("eor r0, r0, #0x1b1b1b1b\n eor r1, r1, #0x1b1b1b1b", 1),
    "a shifted operand and then a shift do": ("add r0, r0, r1, lsl #2\n lsr r2, r3, #4", 1),
    "a shift and then a shifted operand do not": ("lsr r2, r3, #4\n add r0, r0, r1, lsl #2", 2),
    "a shifted operand is wanted a cycle early": ("eor r0, r1, r2\n add r3, r4, r0, lsl #1", 3),
    "SIMD is the older of a pair": ("sxtb16 r0, r1\n add r2, r3, r4", 1),
    "SIMD is never the younger": ("add r2, r3, r4\n sxtb16 r0, r1", 2),
    "two bit-field operations do not pair": ("ubfx r0, r1, #3, #4\n uxtb r2, r3", 2),
    "SXTB16 and SMLAD of others pair": ("sxtb16 r0, r1\n smlad r5, r6, r7, r5", 1),
    "one SMLAD a cycle": ("smlad r0, r1, r2, r0\n smlad r3, r4, r5, r3", 2),
    "SMLADs chain on one accumulator": ("smlad r0, r1, r2, r0\n" * 4, 4),
    "so do SMLALs": ("smlal r0, r1, r2, r3\n" * 4, 4),
    "an ALU operation hides beside SMLAD": ("smlad r0, r1, r2, r0\n add r3, r4, r5", 1),
    "a product is a cycle late": ("mul r0, r1, r2\n eor r3, r3, r0", 3),
    "a product as a factor too": ("smmul r0, r1, r2\n smmul r3, r0, r2", 3),
    "a sum of the same cycle is accumulated": ("add r0, r1, r2\n smlad r0, r3, r4, r0", 1),
    "a word loaded reaches the ALU in the next cycle": ("ldr r0, [r1]\n eor r2, r2, r0", 2),
    "a byte loaded a cycle later": ("ldrb r0, [r1]\n eor r2, r2, r0", 3),
    "a word loaded reaches the multiplier a cycle later": ("ldr r0, [r1]\n smlad r2, r0, r3, r2", 3),
    "and the address of a load two": ("ldr r0, [r0]\n ldr r0, [r0]", 4),
    "loads of even and odd words pair": ("ldr r0, [r2]\n ldr r1, [r2, #4]", 1),
    "loads of one bank do not": ("ldr r0, [r2]\n ldr r1, [r2, #8]", 2),
    "loads with different bases may meet in one bank": ("ldr r0, [r2]\n ldr r1, [r3, #4]", 2),
    "a load and SMLAD pair": ("ldr r0, [r1], #4\n smlad r2, r3, r4, r2", 1),
    "a base that was stepped is there at once": ("ldr r0, [r1], #4\n eor r2, r1, r3", 1),
    "a load and a store pair": ("ldr r0, [r1]\n str r2, [r3]", 1),
    "even of what was loaded": ("ldrb r0, [r1]\n strb r0, [r3]", 1),
    "two stores do not": ("str r0, [r1]\n str r2, [r3]", 2),
    "nor a store and a multiplication": ("str r0, [r1]\n mul r2, r3, r4", 2),
    "LDRD goes alone": ("ldrd r0, r1, [r2]\n add r3, r4, r5", 2),
    "five registers are three transfers of 64 bits": ("push {r4-r7, lr}", 3),
    "LDM goes alone": ("ldm r0, {r1-r4}\n add r5, r5, #1", 3),
    "a saturated result is a cycle late": ("ssat r0, #8, r1\n eor r2, r2, r0", 3),
    "flags reach a conditional operation in the next cycle": ("cmp r0, r1\n it eq\n addeq r2, r2, r3", 2),
    "a division lets nothing pass": ("udiv r0, r1, r2\n add r3, r4, r5", 8),
    "products of floats come after three cycles": ("vmul.f32 s0, s1, s2\n vmul.f32 s3, s0, s1", 4),
    "sums of such products too, where they are accumulated": ("vfma.f32 s0, s1, s2\n" * 2, 4),
    "a branch pairs with what stands before": ("add r0, r0, #1\n b.n . + 64", 1),
    "a loop costs what goes on, not what began": (
        "1: ldr r0, [r1], #4\n smlad r2, r0, r3, r2\n subs r4, #1\n bne 1b",
        4,
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_published_rules(rule: str) -> None:
    text, expected = RULES[rule]
    assert cycles(text) == expected


def test_a_loop_that_is_interleaved_runs_faster() -> None:
    """The order in which SMLADs and their loads stand is what the estimate is for."""
    step = "smlad r{0}, r4, r5, r{0}"
    loads = ["ldr r6, [r8]", "ldr r7, [r8, #4]", "ldr r9, [r8, #8]", "ldr r10, [r8, #12]"]
    apart = cycles("\n".join([*loads, *(step.format(i) for i in range(4))]))
    interleaved = cycles("\n".join(line for i in range(4) for line in (loads[i], step.format(i))))
    paired = cycles("ldrd r6, r7, [r8]\n ldrd r9, r10, [r8, #8]\n" + "\n".join(map(step.format, range(4))))
    assert interleaved == 4
    assert apart == paired == 6


INSTRUCTIONS = [
    "add r0, r1, r2", "adds r3, #1", "eor r1, r0, r3, ror #7", "lsls r2, r2, #3", "mul r4, r0, r1",
    "smlad r0, r1, r2, r0", "sxtb16 r5, r6", "pkhbt r5, r6, r0, lsl #16", "ldr r6, [r7], #4",
    "ldrd r0, r1, [r7]", "ldrb r2, [r7, #3]", "str r2, [r7]", "strh r3, [r7, #2]", "ssat r1, #8, r1",
    "push {r0-r4}", "smull r0, r1, r2, r3", "umlal r0, r1, r2, r3", "cmp r0, r1", "adcs r0, r1", "nop",
    "udiv r0, r1, r2", "vmul.f32 s0, s1, s2", "vldr s1, [r7]", "vmov r0, s0", "bfi r0, r1, #3, #2",
    "rev r0, r1",
]  # fmt: skip


@given(st.lists(st.sampled_from(INSTRUCTIONS), min_size=1, max_size=24))
def test_no_block_is_faster_than_two_instructions_a_cycle(block: list[str]) -> None:
    code = b"".join(machine_code(line) for line in block)
    timing = time_block(code)
    assert len(block) / 2 <= timing.issue <= sum(timing)
    assert timing == time_block.__wrapped__(code)
    assert sum(time_block(code + machine_code(INSTRUCTIONS[0]))) >= sum(timing)


def test_what_is_no_instruction_counts_all_the_same() -> None:
    assert sum(time_block(b"\xff\xff\xff\xff")) >= 1


# Caches and branches.


def trace(body: str) -> tuple[VirtualBoard, Events]:
    """Run `body` with a trace of all of it."""
    board = VirtualBoard(BOARD, assemble(body))
    board.trace.start()
    board.run(10_000_000)
    board.trace.stop()
    assert not board.faults
    return board, board.trace.events


def read_through(address: int, size: int, passes: int, stores: bool = False) -> str:
    access = "str r3, [r0], #4" if stores else "ldr r3, [r0], #4"
    return f"""
  movs r2, #{passes}
1: ldr r0, =0x{address:x}
  ldr r1, =0x{address + size:x}
2: {access}
  cmp r0, r1
  blo 2b
  subs r2, #1
  bne 1b
  b halt
"""


FLASH, DTCM, SRAM = 0x0808_0000, 0x2000_1000, 0x2001_0000
LITERALS = 4  # lines of flash with code and literals that small programs touch, at most


def test_constants_come_once_for_each_line_and_stay_where_they_fit() -> None:
    for passes in (1, 3):
        _, events = trace(read_through(FLASH, CACHE // 2, passes))
        assert CACHE // 2 // LINE <= events.constant_fills <= CACHE // 2 // LINE + LITERALS
        assert events.data_fills == events.store_fills == events.write_backs == 0


def test_constants_that_do_not_fit_come_again() -> None:
    lines = 4 * CACHE // LINE
    _, events = trace(read_through(FLASH, 4 * CACHE, 3))
    assert 2.5 * lines <= events.constant_fills <= 3 * lines + 2 * LITERALS


def test_only_ram_behind_the_bus_is_cached() -> None:
    _, near = trace(read_through(DTCM, CACHE, 2))
    assert near.data_fills == 0
    _, far = trace(read_through(SRAM, CACHE // 2, 2))
    assert far.data_fills == CACHE // 2 // LINE
    assert far.write_backs == 0


def test_lines_that_were_written_are_written_back_when_they_leave() -> None:
    lines = 4 * CACHE // LINE
    _, events = trace(read_through(SRAM, 4 * CACHE, 1, stores=True))
    assert events.store_fills == lines
    assert lines - CACHE // LINE <= events.write_backs <= lines


def test_code_that_fits_is_fetched_once_and_code_that_does_not_again_and_again() -> None:
    def fills(lines: int, passes: int) -> int:
        body = f"movs r2, #{passes}\n 1:\n" + "nop.w\n" * (8 * lines) + "subs r2, #1\n bne.w 1b\n b halt\n"
        return trace(body)[1].code_fills

    assert 64 <= fills(64, 1) <= 64 + LITERALS
    assert fills(64, 10) == fills(64, 1)
    assert fills(512, 10) > 9 * 512


def test_a_loop_costs_one_misprediction_each_time_that_it_ends() -> None:
    body = """
  movs r2, #50
1: movs r1, #20
2: subs r1, #1
  bne 2b
  subs r2, #1
  bne 1b
  b halt
"""
    _, events = trace(body)
    assert 50 <= events.mispredictions <= 50 + 6


def test_unaligned_loads_are_noticed_and_doubles_are_none() -> None:
    body = """
  ldr r0, =0x20001002
  ldr r1, [r0]
  ldrh r1, [r0]
  ldrb r1, [r0, #1]
  str r1, [r0]
  ldr r0, =0x20001004
  ldrd r2, r3, [r0]
  vldr d0, [r0]
  b halt
"""
    _, events = trace(body)
    assert events.unaligned_loads == 1


def test_a_trace_changes_nothing_that_is_counted_and_ends() -> None:
    body = read_through(FLASH, CACHE, 2)
    plain = run_assembly(body)
    board, events = trace(body)
    assert board.instructions == plain.instructions
    assert board.profile() == plain.profile()
    assert events == trace(body)[1]


def test_the_estimate_adds_up() -> None:
    board, events = trace(read_through(FLASH, 4 * CACHE, 2))
    blocks: list[BlockCount] = list(board.chip.memory.block_counts())
    cycles = estimate(board.chip.memory, blocks, events)
    assert cycles.constants == events.constant_fills * FLASH_FILL
    assert cycles.branches == events.mispredictions * MISPREDICTION
    assert cycles.total >= max(1, board.instructions / 2)
    assert board.cycles_estimate() == cycles.total
    untraced = estimate(board.chip.memory, blocks)
    assert untraced.total == untraced.issue + untraced.operands == cycles.issue + cycles.operands
    board.reset_counters()
    assert board.cycles_estimate() == 0


def test_layers_carry_their_share() -> None:
    board = VirtualBoard(
        BOARD,
        assemble("""
  bl layer_0_constants
  bl layer_1_loop
  b halt
.type layer_0_constants, %function
.thumb_func
layer_0_constants:
  ldr r0, =0x08080000
  ldr r1, =0x08081000
1: ldr r3, [r0], #4
  cmp r0, r1
  blo 1b
  bx lr
.size layer_0_constants, . - layer_0_constants
.type layer_1_loop, %function
.thumb_func
layer_1_loop:
  movs r0, #100
2: subs r0, #1
  bne 2b
  bx lr
.size layer_1_loop, . - layer_1_loop
"""),
    )
    board.layers.start()
    board.run(1_000_000)
    layers = board.layers.stop()
    assert layers[0].cycles.constants >= CACHE // LINE * FLASH_FILL
    assert layers[1].cycles.constants == 0
    for layer in layers.values():
        assert layer.cycles_estimate == layer.cycles.total >= layer.instructions / 2
