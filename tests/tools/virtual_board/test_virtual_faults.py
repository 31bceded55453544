"""What faults on the chip faults on the virtual board, at the same instruction, and reaches its handler."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from virtual_firmware import RESULTS, run_assembly, symbol, word

from tools.virtual_board import faults
from tools.virtual_board.board import VirtualBoard
from tools.virtual_board.exceptions import BUS_FAULT, HARD_FAULT, MEM_MANAGE, USAGE_FAULT
from tools.virtual_board.faults import FaultKind, FaultReport

ALL_FAULTS = {"enabled_faults": 7 << 16}
MARKED = ".global fault\n.type fault, %function\n.thumb_func\nfault:"


@dataclass(frozen=True)
class Taken:
    """What the handler in start.S wrote down."""

    exception: int
    stack: int
    link: int
    cfsr: int
    hfsr: int
    mmfar: int
    bfar: int
    pc: int
    xpsr: int


def taken(board: VirtualBoard) -> Taken:
    return Taken(*(word(board, RESULTS + 4 * place) for place in range(9)))


def fault_of(board: VirtualBoard) -> FaultReport:
    assert len(board.faults) == 1, board.faults
    return board.faults[0]


CASES = {
    "read outside memory": (
        f"ldr r0, =0x30000000\n{MARKED} ldr r1, [r0]",
        FaultKind.READ,
        BUS_FAULT,
        0x30000000,
    ),
    "read after SRAM2": (
        f"ldr r0, =0x20050000\n{MARKED} ldrb r1, [r0]",
        FaultKind.READ,
        BUS_FAULT,
        0x20050000,
    ),
    "read after ITCM": (f"ldr r0, =0x4000\n{MARKED} ldrh r1, [r0]", FaultKind.READ, BUS_FAULT, 0x4000),
    "write after flash": (
        f"ldr r0, =0x08100000\n{MARKED} str r1, [r0]",
        FaultKind.WRITE,
        BUS_FAULT,
        0x08100000,
    ),
    "write outside memory": (
        f"ldr r0, =0xC0000000\n{MARKED} strb r1, [r0]",
        FaultKind.WRITE,
        BUS_FAULT,
        0xC0000000,
    ),
    "write in an IT block": (
        f"ldr r0, =0xC0000000\n cmp r0, #0\n itt ne\n{MARKED} strne r1, [r0]\n movne r2, #77",
        FaultKind.WRITE,
        BUS_FAULT,
        0xC0000000,
    ),
    "write to flash": (
        f"ldr r0, =0x08000000\n{MARKED} str r1, [r0]",
        FaultKind.FLASH_WRITE,
        BUS_FAULT,
        0x08000000,
    ),
    "write to flash by its alias": (
        f"ldr r0, =0x00200000\n{MARKED} str r1, [r0, #8]!",
        FaultKind.FLASH_WRITE,
        BUS_FAULT,
        0x00200008,
    ),
    "store of several registers": (
        f"ldr r0, =0x2004FFF8\n{MARKED} stmia r0!, {{r1-r4}}",
        FaultKind.WRITE,
        BUS_FAULT,
        0x20050000,
    ),
    "undefined": (f"{MARKED} udf #1", FaultKind.UNDEFINED, USAGE_FAULT, None),
    "instruction of ARMv8-M": (f"{MARKED} .short 0xE8D0, 0x1FAF", FaultKind.UNDEFINED, USAGE_FAULT, None),
    "instruction of NEON": (f"{MARKED} .short 0xEF20, 0x0842", FaultKind.UNDEFINED, USAGE_FAULT, None),
    "coprocessor": (f"{MARKED} mrc p15, 0, r0, c0, c0, 0", FaultKind.COPROCESSOR, USAGE_FAULT, None),
    "double precision": (f"{MARKED} .short 0xEE30, 0x0B01", FaultKind.DOUBLE, USAGE_FAULT, None),
    "LDRD": (f"ldr r0, =0x20001001\n{MARKED} ldrd r2, r3, [r0]", FaultKind.UNALIGNED, USAGE_FAULT, None),
    "STRD": (f"ldr r0, =0x20001001\n{MARKED} strd r2, r3, [r0, #4]!", FaultKind.UNALIGNED, USAGE_FAULT, None),
    "LDM": (
        f"ldr r0, =0x20001000\n adds r0, #2\n{MARKED} ldmia r0, {{r2, r3}}",
        FaultKind.UNALIGNED,
        USAGE_FAULT,
        None,
    ),
    "STM": (
        f"ldr r0, =0x20001000\n subs r0, #3\n{MARKED} stmdb r0!, {{r2, r3}}",
        FaultKind.UNALIGNED,
        USAGE_FAULT,
        None,
    ),
    "VLDR": (f"ldr r0, =0x20001002\n{MARKED} vldr s0, [r0]", FaultKind.UNALIGNED, USAGE_FAULT, None),
    "VSTM": (f"ldr r0, =0x20001002\n{MARKED} vstmia r0!, {{s0-s3}}", FaultKind.UNALIGNED, USAGE_FAULT, None),
    "LDREX": (f"ldr r0, =0x20001002\n{MARKED} ldrex r1, [r0]", FaultKind.UNALIGNED, USAGE_FAULT, None),
    "branch without Thumb bit": ("ldr r0, =halt\n bic r0, #1\n bx r0", FaultKind.STATE, USAGE_FAULT, None),
    "execution outside memory": ("ldr r0, =0x30000001\n bx r0", FaultKind.EXECUTE, BUS_FAULT, None),
    "execution in peripherals": ("ldr r0, =0x40011001\n bx r0", FaultKind.EXECUTE, MEM_MANAGE, None),
}
STATUS = {
    FaultKind.READ: faults.PRECISERR | faults.BFARVALID,
    FaultKind.WRITE: faults.PRECISERR | faults.BFARVALID,
    FaultKind.FLASH_WRITE: faults.PRECISERR | faults.BFARVALID,
    FaultKind.UNDEFINED: faults.UNDEFINSTR,
    FaultKind.DOUBLE: faults.UNDEFINSTR,
    FaultKind.COPROCESSOR: faults.NOCP,
    FaultKind.UNALIGNED: faults.UNALIGNED,
    FaultKind.STATE: faults.INVSTATE,
}


@pytest.mark.parametrize("name", CASES)
def test_a_fault_is_reported_and_taken(name: str) -> None:
    body, kind, exception, address = CASES[name]
    board = run_assembly(f"movs r2, #5\n{body}\n movs r2, #9\n b halt", ALL_FAULTS)
    report = fault_of(board)
    frame = taken(board)
    assert report.kind is kind
    assert report.address == address
    assert not board.halted
    assert frame.exception == exception
    if kind in STATUS:
        assert frame.cfsr == STATUS[kind]
    if address is not None:
        assert frame.bfar == address
    if MARKED in body:
        assert report.pc == frame.pc == symbol(board, "fault")
        assert report.function == f"0x{report.pc:08x} (fault+0x0)"
        assert report.registers["r2"] == 5


def test_a_fault_in_an_it_block_can_be_returned_from() -> None:
    """The pushed xPSR keeps the rest of the block."""
    handler = (
        ".global handler\n.type handler, %function\n.thumb_func\n"
        "handler: ldr r0, =0x20002000\n str r0, [sp]\n bx lr\n.ltorg\n"
    )
    board = run_assembly(
        "movs r1, #1\n ldr r0, =0x30000000\n cmp r1, #1\n ittee eq\n"
        f"{MARKED} streq r1, [r0]\n moveq r2, #5\n movne r2, #6\n movne r3, #7\n"
        f" ldr r4, =results\n str r2, [r4, #64]\n b halt\n.ltorg\n{handler}"
    )
    assert len(board.faults) == 1
    assert word(board, RESULTS + 64) == 5
    assert word(board, 0x2000_2000) == 1


def test_a_fault_whose_handler_is_off_escalates() -> None:
    board = run_assembly("ldr r0, =0x30000000\n ldr r1, [r0]\n b halt")
    frame = taken(board)
    assert (frame.exception, frame.hfsr) == (HARD_FAULT, faults.FORCED)
    assert frame.cfsr == faults.PRECISERR | faults.BFARVALID
    assert fault_of(board).handler == "HardFault"


def test_breakpoints_without_a_debugger_are_hard_faults() -> None:
    board = run_assembly("bkpt #1\n b halt", ALL_FAULTS)
    assert fault_of(board).kind is FaultKind.BREAKPOINT
    assert (taken(board).exception, taken(board).hfsr) == (HARD_FAULT, faults.DEBUGEVT)


def test_the_fpu_is_off_until_cpacr_turns_it_on() -> None:
    off = "ldr r0, =0xE000ED88\n movs r1, #0\n str r1, [r0]\n dsb\n isb\n"
    board = run_assembly(f"{off}\n nop\n{MARKED} vmov s0, r1\n b halt", ALL_FAULTS)
    assert fault_of(board).kind is FaultKind.FPU_OFF
    assert (taken(board).exception, taken(board).cfsr) == (USAGE_FAULT, faults.NOCP)
    assert taken(board).pc == symbol(board, "fault")


@pytest.mark.parametrize("division", ["sdiv r2, r1, r0", "udiv r2, r1, r0"])
@pytest.mark.parametrize("trapped", [True, False])
def test_division_by_zero_faults_where_ccr_traps_it(division: str, trapped: bool) -> None:
    trap = "ldr r0, =0xE000ED14\n ldr r1, [r0]\n orr r1, #16\n str r1, [r0]\n dsb\n isb\n" if trapped else ""
    board = run_assembly(
        f"{trap} movs r0, #3\n movs r1, #7\n {division}\n movs r0, #0\n{MARKED} {division}\n b halt",
        ALL_FAULTS,
    )
    if trapped:
        assert fault_of(board).kind is FaultKind.DIVISION
        assert (taken(board).cfsr, taken(board).pc) == (faults.DIVBYZERO, symbol(board, "fault"))
    else:
        assert not board.faults


RECURSE = ".type recurse, %function\n.thumb_func\nrecurse: push {r0-r3, lr}\n bl recurse\n"


def test_a_stack_overflow_is_named_and_still_reaches_a_handler() -> None:
    board = run_assembly(f"b recurse\n{RECURSE}", ALL_FAULTS | {"stack_top": 0x2000_1000})
    report = fault_of(board)
    assert report.kind is FaultKind.STACK_OVERFLOW
    assert "recurse" in report.function
    assert report.handler == "HardFault"  # nothing can be pushed for the BusFault
    assert taken(board).exception == HARD_FAULT
    assert taken(board).cfsr == faults.PRECISERR | faults.BFARVALID | faults.STKERR
    assert taken(board).hfsr == faults.FORCED


def test_a_stack_overflow_without_fault_handlers_stops_the_core() -> None:
    board = run_assembly(f"b recurse\n{RECURSE}", {"stack_top": 0x2000_1000})
    assert board.halted
    assert fault_of(board).handler is None


def test_a_fault_in_the_hard_fault_handler_stops_the_core() -> None:
    board = run_assembly("udf #0\n.global handler\n.type handler, %function\n.thumb_func\nhandler: udf #1")
    assert board.halted
    assert [report.handler for report in board.faults] == ["HardFault", None]
    assert "taken by nothing" in str(board.faults[1])


def test_a_register_that_is_not_modelled_stops_the_board_and_says_so() -> None:
    board = run_assembly("ldr r0, =0x40013000\n ldr r1, [r0]\n b halt", ALL_FAULTS)
    assert board.halted
    assert fault_of(board).kind is FaultKind.NOT_MODELLED
    assert fault_of(board).address == 0x4001_3000


def test_a_missed_deadline_names_the_loop() -> None:
    board = run_assembly(
        "b endless\n.type endless, %function\n.thumb_func\nendless: b endless\n.size endless, 2", limit=0
    )
    board._deadline = 100_000
    board.run(1 << 40)
    assert board.halted
    assert fault_of(board).kind is FaultKind.DEADLINE
    assert "endless" in fault_of(board).function
    assert fault_of(board).instructions == pytest.approx(100_000, abs=10)


GUARD = """
  ldr r0, =0xE000ED94
  ldr r1, =0x10                  @ region 0: 256 bytes from 0, no access
  str r1, [r0, #8]
  ldr r1, =0x1000000F
  str r1, [r0, #12]
  ldr r1, =0x20000011            @ region 1: 4 KB of RAM, read only
  str r1, [r0, #8]
  ldr r1, =0x16000017
  str r1, [r0, #12]
  movs r1, #5
  str r1, [r0]
  dsb
  isb
"""


@pytest.mark.parametrize(
    ("access", "address"),
    [
        ("movs r0, #8\n{} ldr r1, [r0]", 8),
        ("mov r0, #0x200\n ldr r1, [r0]\n str r1, [r0]\n movs r0, #8\n{} ldr r1, [r0]", 8),
        ("mov r0, #0x200\n ldr r1, [r0]\n b 1f\n 1: movs r0, #12\n{} strb r1, [r0]", 12),
        ("movs r0, #0xFC\n{} str r1, [r0]", 0xFC),
        ("ldr r0, =0x20000FFC\n ldr r1, [r0]\n{} str r1, [r0]", 0x2000_0FFC),
    ],
)
def test_the_memory_protection_unit_is_obeyed(access: str, address: int) -> None:
    handler = ".global handler\n.type handler, %function\n.thumb_func\nhandler: b halt\n"
    board = run_assembly(f"{GUARD}\n{access.format(MARKED)}\n b halt\n.ltorg\n{handler}", ALL_FAULTS)
    report = fault_of(board)
    assert (report.kind, report.address, report.handler) == (FaultKind.PROTECTED, address, "MemManage")
    assert report.registers["cfsr"] == faults.DACCVIOL | faults.MMARVALID
    assert report.pc == symbol(board, "fault")


def test_a_call_through_a_null_pointer_is_caught_by_the_memory_protection_unit() -> None:
    handler = ".global handler\n.type handler, %function\n.thumb_func\nhandler: b halt\n"
    board = run_assembly(f"{GUARD}\n movs r0, #1\n blx r0\n b halt\n.ltorg\n{handler}", ALL_FAULTS)
    assert fault_of(board).kind is FaultKind.PROTECTED
    assert "null pointer" in str(fault_of(board))
    assert fault_of(board).registers["cfsr"] == faults.IACCVIOL


def test_memory_beside_a_guarded_region_stays_usable() -> None:
    board = run_assembly(
        f"{GUARD}\n mov r0, #0x101\n ldr r1, =0x11223344\n str r1, [r0]\n ldrh r2, [r0, #1]\n"
        " ldr r3, =0x20001000\n str r2, [r3]\n strb r2, [r0, #3]\n ldr r2, [r0]\n str r2, [r3, #4]\n b halt",
        ALL_FAULTS,
    )
    assert not board.faults
    assert word(board, 0x2000_1000) == 0x2233
    assert word(board, 0x2000_1004) == 0x3322_3344


def test_code_in_ram_runs_and_may_be_written_anew() -> None:
    add = "ldr r0, =0x20002001\n blx r0\n"
    put = "ldr r1, =0x20002000\n ldr r2, ={}\n str r2, [r1]\n dsb\n isb\n"
    board = run_assembly(
        f"movs r3, #0\n {put.format('0x47703301')} {add} {put.format('0x47703310')} {add}"
        " ldr r1, =results\n str r3, [r1, #64]\n b halt"
    )
    assert not board.faults
    assert word(board, RESULTS + 64) == 0x11


def test_code_in_ram_that_the_memory_protection_unit_forbids_does_not_run() -> None:
    handler = ".global handler\n.type handler, %function\n.thumb_func\nhandler: b halt\n"
    never = GUARD.replace("0x16000017", "0x13000017")
    board = run_assembly(f"{never}\n ldr r0, =0x20000801\n blx r0\n b halt\n.ltorg\n{handler}", ALL_FAULTS)
    assert fault_of(board).kind is FaultKind.PROTECTED
    assert fault_of(board).registers["cfsr"] == faults.IACCVIOL


def test_the_core_starts_again_after_the_button_is_pressed() -> None:
    board = run_assembly("udf #0\n.global handler\n.type handler, %function\n.thumb_func\nhandler: udf #1")
    assert board.halted
    board.reset()
    board.run(100_000)
    assert len(board.faults) == 4
