"""Unaligned accesses fault where the chip makes them, and nowhere else."""

from __future__ import annotations

import random

import pytest
from unicorn import arm_const as arm
from virtual_firmware import RESULTS, run_assembly, symbol, word

from tools.virtual_board.faults import FaultKind

# Keep r0 a pointer into RAM, and r1 ... r3 small numbers.
ARITHMETIC = [
    "add r0, r{a}",
    "adds r0, #{i}",
    "subs r0, #{i}",
    "sub.w r0, r0, r{a}",
    "add.w r0, r0, r{a}, lsl #1",
    "add.w r0, r0, r{a}, lsl #2",
    "ldrb r8, [r0], #{i}",
    "ldrsh r8, [r0, #-{i}]!",
    "str r8, [r0, #{i}]!",
    "mov r9, r0\n mov r0, r9",
    "addw r0, r0, #{i}",
    "subw r0, r0, #{i}",
    "lsls r{a}, r{b}, #1",
    "rsb r{a}, r{b}, #{i}",
    "adds r{a}, r{b}, #{i}",
    "subs r{a}, r{b}, r1",
    "uxtb r{a}, r{b}",
    "movs r{a}, #{i}",
    "negs r{a}, r{b}",
    "bic r0, r0, #3",
]
LOADS = [
    "ldrd r4, r5, [r0]",
    "ldrd r4, r5, [r0, #16]!",
    "ldmia r0!, {r4, r5}",
    "stmdb r0, {r4, r5}",
    "vldr d0, [r0, #8]",
]


@pytest.mark.parametrize("seed", range(24))
def test_an_access_faults_exactly_if_its_address_is_unaligned(seed: int) -> None:
    """Oracle: the same arithmetic in a block before, whose result is stored."""
    generator = random.Random(seed)
    start = [f"ldr r0, =0x{0x2000_8000 + generator.randrange(16):x}"]
    start += [f"movs r{register}, #{generator.randrange(64)}" for register in (1, 2, 3)]
    lines = []
    for _ in range(generator.randrange(1, 8)):
        names = {name: generator.randrange(1, 4) for name in "ab"}
        lines.append(generator.choice(ARITHMETIC).format(**names, i=generator.randrange(8)))
    begin, arithmetic = "\n".join(start), "\n".join(lines)
    board = run_assembly(
        f"{begin}\n{arithmetic}\n ldr r7, =results\n str r0, [r7, #64]\n b 1f\n.ltorg\n"
        f"1: {begin}\n b 2f\n 2: {arithmetic}\n"
        f".global access\n.type access, %function\n.thumb_func\naccess: {generator.choice(LOADS)}\n b halt"
    )
    assert bool(board.faults) == bool(word(board, RESULTS + 64) & 3)
    for report in board.faults:
        assert report.kind is FaultKind.UNALIGNED
        assert report.pc == symbol(board, "access")
        assert report.registers["r0"] == word(board, RESULTS + 64)


@pytest.mark.parametrize("access", ["ldr r1, [r0]", "ldrh r1, [r0]", "str r1, [r0]", "ldrsh.w r1, [r0, #5]"])
def test_plain_loads_and_stores_may_be_unaligned(access: str) -> None:
    assert not run_assembly(f"ldr r0, =0x20001001\n {access}\n b halt").faults


def test_an_access_that_is_skipped_does_not_fault() -> None:
    board = run_assembly("ldr r0, =0x20001001\n cmp r0, #0\n it eq\n ldrdeq r2, r3, [r0]\n b halt")
    assert not board.faults


def test_a_block_that_begins_inside_an_it_block_is_known_as_such() -> None:
    """The emulator ends blocks at pages of 4 KB, also between IT and what it makes conditional."""
    board = run_assembly(
        "ldr r0, =0x20001001\n cmp r0, #0\n b 1f\n.ltorg\n.balign 4096\n.space 4094\n"
        "1: it eq\n ldrdeq r2, r3, [r0]\n b halt"
    )
    assert not board.faults


def test_pushing_and_popping_needs_no_check() -> None:
    board = run_assembly("push {r0-r7, lr}\n vpush {s0-s15}\n vpop {s0-s15}\n pop {r0-r7, lr}\n b halt")
    assert not board.faults


def test_a_pointer_that_was_kept_on_the_stack_is_known() -> None:
    board = run_assembly(
        "ldr r0, =0x20001002\n push {r0, r1}\n b 1f\n.ltorg\n"
        "1: ldr r3, [sp]\n adds r3, #4\n ldrd r4, r5, [r3]\n b halt"
    )
    [report] = board.faults
    assert report.kind is FaultKind.UNALIGNED
    assert report.registers["r3"] == 0x2000_1006


@pytest.mark.parametrize(
    "change",
    [
        "str r2, [sp]",
        "str.w r2, [sp]",
        "mov r6, sp\n str r2, [r6]",
        "add r6, sp, #0\n str r2, [r6]",
        "push {r2}",
    ],
)
def test_a_pointer_on_the_stack_that_has_changed_is_not_mistaken(change: str) -> None:
    board = run_assembly(
        "ldr r0, =0x20001002\n ldr r2, =0x20001000\n sub sp, #8\n str r0, [sp]\n b 1f\n.ltorg\n"
        f"1: {change}\n ldr r3, [sp]\n ldrd r4, r5, [r3]\n movs r7, #77\n b halt"
    )
    assert not board.faults
    assert board.chip.cpu.read(arm.UC_ARM_REG_R7) == 77
