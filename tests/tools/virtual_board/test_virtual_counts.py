"""The virtual board counts every instruction, and its cycle counter is exact where it is read."""

from __future__ import annotations

from pathlib import Path

import pytest
from unicorn import UC_ARCH_ARM, UC_HOOK_CODE, UC_HOOK_INTR, UC_MODE_THUMB, Uc
from unicorn import arm_const as arm
from virtual_firmware import BOARD, RESULTS, assemble, echo_image, run_assembly, symbol, word

from tools.virtual_board.board import Outcome, VirtualBoard
from tools.virtual_board.image import load_image

START_COUNTER = """
  ldr r0, =0xE000EDFC
  mov r1, #0x01000000
  str r1, [r0]
  ldr r4, =0xE0001000
  ldr r1, =0xC5ACCE55
  ldr r2, =0xFB0
  str r1, [r4, r2]
  movs r1, #1
  str r1, [r4]
  ldr r5, =results
"""
# Each between two reads of CYCCNT into r6 and r7: what runs, and how many instructions that is.
PIECES = {
    "nothing": ("", 0),
    "narrow": ("nop\n nop\n nop", 3),
    "wide": ("nop.w\n add r8, r9, r10\n mul r8, r9, r10", 3),
    "mixed": ("nop\n nop.w\n adds r1, #1\n adds.w r1, #1", 4),
    "branch": ("b 1f\n nop\n 1:", 1),
    "loop": ("movs r1, #10\n 1: subs r1, #1\n bne 1b", 1 + 2 * 10),
    "loop into its own block": ("movs r1, #5\n nop\n 1: nop.w\n subs r1, #1\n bne 1b", 2 + 3 * 5),
    "call": ("bl function", 1 + 3),
    "IT, taken and skipped": ("cmp r5, #0\n itete eq\n nopeq\n nopne\n addeq r1, #1\n addne r1, #1", 6),
    "many": ("nop\n nop.w\n" * 700, 1400),
    "memory": ("push {r0-r3}\n pop {r0-r3}\n str r5, [r5, #64]\n ldr r5, [r5, #64]", 4),
    "registers": ("ldr r3, =0xE000ED08\n ldr r1, [r3]\n str r1, [r3]\n nop", 4),
    "float": ("vmov s0, r1\n vmul.f32 s1, s0, s0\n vmrs apsr_nzcv, fpscr", 3),
    "table branch": ("movs r1, #1\n tbb [pc, r1]\n .byte 2, 1\n 1: nop", 3),
}


@pytest.mark.parametrize("name", PIECES)
def test_the_cycle_counter_counts_the_instructions_between_two_reads(name: str) -> None:
    piece, instructions = PIECES[name]
    board = run_assembly(
        f"""{START_COUNTER}
  b 2f
.type function, %function
function: nop
  nop.w
  bx lr
.ltorg
2:
  ldr r6, [r4, #4]
  {piece}
  ldr r7, [r4, #4]
  subs r7, r6
  str r7, [r5]
  b halt
"""
    )
    assert not board.faults
    assert word(board, RESULTS) - 1 == instructions  # the first read itself


def _count_with_a_hook_for_each_instruction(elf: Path, limit: int) -> dict[str | None, int]:
    """Count by function until WFI, as Unicorn alone sees it; it leaves out what IT skips."""
    image = load_image(BOARD, elf)
    unicorn = Uc(UC_ARCH_ARM, UC_MODE_THUMB, arm.UC_CPU_ARM_CORTEX_M7)
    unicorn.mem_map(0x0800_0000, 0x10_0000)
    unicorn.mem_map(0x2000_0000, 0x5_0000)
    unicorn.mem_map(0xE000_0000, 0x1_0000)
    for segment in image.segments:
        unicorn.mem_write(segment.load, segment.data)
    counts: dict[str | None, int] = {}

    def count(_unicorn: Uc, address: int, _size: int, _data: object) -> None:
        name = image.name_at(address)
        counts[name] = counts.get(name, 0) + 1

    unicorn.hook_add(UC_HOOK_CODE, count)
    unicorn.hook_add(UC_HOOK_INTR, lambda uc, _number, _data: uc.emu_stop())
    unicorn.reg_write(arm.UC_ARM_REG_SP, 0x2005_0000)
    start = next(function.address for function in image.functions if function.symbol == "start")
    unicorn.emu_start(start | 1, 0xFFFF_FFFE, count=limit)
    return counts


SORT = """
  ldr r0, =0x20001000
  movs r1, #200
  movs r2, #77
1: str r2, [r0, r1, lsl #2]
  movw r3, #1103
  mul r2, r3
  addw r2, r2, #321
  ubfx r2, r2, #0, #12
  subs r1, #1
  bpl 1b
  bl sort
  bl sort
  b halt
.type sort, %function
.thumb_func
sort: push {r4-r7, lr}
  movs r4, #0
2: add r5, r4, #1
3: ldr r6, [r0, r4, lsl #2]
  ldr r7, [r0, r5, lsl #2]
  cmp r6, r7
  bls 4f
  str r7, [r0, r4, lsl #2]
  str r6, [r0, r5, lsl #2]
4: adds r5, #1
  cmp r5, #200
  ble 3b
  adds r4, #1
  cmp r4, #200
  blt 2b
  pop {r4-r7, pc}
.size sort, . - sort
"""


def test_the_profile_equals_a_count_of_each_single_instruction() -> None:
    elf = assemble(SORT)
    board = VirtualBoard(BOARD, elf)
    assert board.run(100_000_000) is Outcome.IDLE
    oracle = _count_with_a_hook_for_each_instruction(elf, 10_000_000)
    profile = board.profile()
    assert profile["sort"] == oracle["sort"] > 200_000
    assert profile["start"] == oracle["start"]
    assert sum(profile.values()) == board.instructions == sum(oracle.values())


def test_slices_of_any_size_count_the_same() -> None:
    elf = assemble(SORT)
    whole = VirtualBoard(BOARD, elf)
    whole.run(100_000_000)
    sliced = VirtualBoard(BOARD, elf)
    size = 1
    while sliced.run(size) is Outcome.LIMIT:
        size = size * 3 % 5_003
    assert sliced.instructions == whole.instructions
    assert sliced.profile() == whole.profile()


def test_work_counts_the_same_however_the_host_splits_its_bytes() -> None:
    counts = set()
    for pieces in ([b"hello world"], [b"h", b"ello", b" world"], [bytes([c]) for c in b"hello world"]):
        answer = bytearray()
        board = VirtualBoard(BOARD, echo_image(), answer.extend)
        board.run(10_000_000)
        before = board.profile().get("put", 0)
        for piece in pieces:
            board.uart_send(piece)
            assert board.run(10_000_000) is Outcome.IDLE
        assert answer == b"hello world"
        counts.add(board.profile()["put"] - before)
    assert len(counts) == 1


def test_counting_goes_on_through_an_exception() -> None:
    board = run_assembly(
        f"""{START_COUNTER}
  ldr r6, [r4, #4]
  svc #0
  ldr r7, [r4, #4]
  subs r7, r6
  str r7, [r5, #64]
  b halt
.global handler
.type handler, %function
.thumb_func
handler:
  movs r0, #1
  bx lr
"""
    )
    assert not board.faults
    assert word(board, RESULTS + 64) == 1 + 1 + 2  # the read, SVC, the handler


def test_a_block_that_faults_counts_what_ran_of_it() -> None:
    board = run_assembly("nop\n nop\n ldr r0, =0x30000000\n fault: ldr r1, [r0]\n nop\n nop\n b halt")
    [fault] = board.faults
    before_test = 10
    assert fault.instructions == before_test + 3


def test_reset_counters_forgets_the_profile_but_not_the_clock() -> None:
    board = run_assembly(SORT)
    instructions = board.instructions
    board.reset_counters()
    assert board.profile() == {}
    assert board.cycles_estimate() == 0
    assert board.instructions == instructions


def test_code_in_itcm_is_counted_and_named() -> None:
    board = run_assembly(
        """
  ldr r0, =itcm_start
  ldr r1, =itcm_end
  ldr r2, =itcm_load
1: ldr r3, [r2], #4
  str r3, [r0], #4
  cmp r0, r1
  blo 1b
  ldr r0, =quick
  blx r0
  b halt
.ltorg
.section .itcm, "ax"
.global quick
.type quick, %function
.thumb_func
quick: movs r1, #100
2: subs r1, #1
  bne 2b
  bx lr
.size quick, . - quick
.text
"""
    )
    assert not board.faults
    assert board.profile()["quick"] == 1 + 200 + 1
    assert symbol(board, "quick") < 0x4000
