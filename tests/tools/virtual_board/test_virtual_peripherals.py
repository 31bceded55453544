"""Registers behave as the manuals say: RM0385, and the ARMv7-M architecture."""

from __future__ import annotations

import numpy as np
import pytest
from virtual_firmware import BOARD, RESULTS, assemble, run_assembly, word

from tools.virtual_board.board import Outcome, VirtualBoard
from tools.virtual_board.native import layout as at
from tools.virtual_board.native.layout import MPU_EXECUTE, MPU_READ
from tools.virtual_board.peripherals.base import Bus, Peripheral
from tools.virtual_board.peripherals.clocks import Flash, Pwr, Rcc
from tools.virtual_board.peripherals.dwt import Dwt
from tools.virtual_board.peripherals.gpio import Gpio
from tools.virtual_board.peripherals.line import Receiver, Transmitter
from tools.virtual_board.peripherals.mpu import Mpu, Restriction

ALL = 0xFFFF_FFFF


class Surroundings:
    """A board that only takes notes."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.time = 0

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def now(self) -> int:
        return self.time

    def rest(self) -> None:
        pass


@pytest.fixture
def around() -> Surroundings:
    return Surroundings()


@pytest.fixture
def rcc(around: Surroundings) -> Rcc:
    return Rcc(25_000_000, Flash(around), around)


CR, PLLCFGR, CFGR, AHB1ENR, APB1ENR, CSR = 0x00, 0x04, 0x08, 0x30, 0x40, 0x74


def test_a_clock_is_ready_a_while_after_it_was_turned_on(rcc: Rcc) -> None:
    rcc.write(CR, rcc.read(CR) | 1 << 16, ALL)
    assert not rcc.read(CR) & 1 << 17
    assert rcc.read(CR) & 1 << 17
    rcc.write(CR, rcc.read(CR) & ~(1 << 16), ALL)
    assert not rcc.read(CR) & 1 << 17


def start_pll(rcc: Rcc) -> None:
    rcc.write(CR, rcc.read(CR) | 1 << 16, ALL)
    rcc.read(CR)
    rcc.write(PLLCFGR, 25 | 432 << 6 | 1 << 22, ALL)
    rcc.write(CR, rcc.read(CR) | 1 << 24, ALL)
    rcc.read(CR)


def test_the_clock_tree_is_computed_from_the_registers(rcc: Rcc) -> None:
    assert (rcc.core_hz, rcc.apb1_hz, rcc.apb2_hz) == (16_000_000,) * 3
    start_pll(rcc)
    rcc.write(CFGR, 5 << 10 | 4 << 13 | 2, ALL)
    assert rcc.read(CFGR) & 0xC == 2 << 2
    assert (rcc.core_hz, rcc.apb1_hz, rcc.apb2_hz) == (216_000_000, 54_000_000, 108_000_000)
    assert rcc.usart1_hz == 108_000_000
    rcc.write(CFGR, 9 << 4 | 2, ALL)
    assert rcc.core_hz == 54_000_000


def test_limits_of_the_buses_are_watched(rcc: Rcc, around: Surroundings) -> None:
    start_pll(rcc)
    rcc.write(CFGR, 2, ALL)
    text = "\n".join(around.warnings)
    assert "APB1 runs at 216000000 Hz, above its limit of 54000000 Hz" in text
    assert "0 flash wait states; it needs 7" in text


def test_a_pll_without_a_source_does_not_lock(rcc: Rcc, around: Surroundings) -> None:
    rcc.write(PLLCFGR, 25 | 432 << 6 | 1 << 22, ALL)
    rcc.write(CR, rcc.read(CR) | 1 << 24, ALL)
    rcc.read(CR)
    assert not rcc.read(CR) & 1 << 25
    assert "before its source HSE is ready" in around.warnings[0]


def test_the_pll_keeps_its_settings_while_it_runs(rcc: Rcc, around: Surroundings) -> None:
    start_pll(rcc)
    before = rcc.read(PLLCFGR)
    rcc.write(PLLCFGR, 1, ALL)
    assert rcc.read(PLLCFGR) == before
    assert around.warnings


def test_reset_flags_stay_until_they_are_removed(rcc: Rcc) -> None:
    assert rcc.read(CSR) >> 24 == 0x0E
    rcc.reset()
    assert rcc.read(CSR) & 1 << 28  # SFTRSTF
    rcc.write(CSR, 1 << 24, ALL)
    assert rcc.read(CSR) >> 24 == 0


def test_over_drive_is_switched_on_in_two_steps(rcc: Rcc, around: Surroundings) -> None:
    pwr = Pwr(rcc, around)
    assert not pwr.clocked
    rcc.write(APB1ENR, 1 << 28, ALL)
    assert pwr.clocked
    pwr.write(0, pwr.read(0) | 1 << 17, ALL)
    assert "before over-drive is ready" in around.warnings[0]
    pwr.write(0, pwr.read(0) | 1 << 16, ALL)
    assert pwr.read(4) & 1 << 16
    pwr.write(0, pwr.read(0) | 1 << 17, ALL)
    assert pwr.read(4) & 1 << 17
    assert pwr.over_drive


def test_a_peripheral_without_clock_ignores_everything(rcc: Rcc, around: Surroundings) -> None:
    port = Gpio("A", rcc, around)
    bus = Bus([port], around)
    bus.write(0x4002_0014, 4, 0x55)
    assert bus.read(0x4002_0014, 4) == 0
    assert "GPIOA is used while its clock is off" in around.warnings[0]
    rcc.write(AHB1ENR, 1, ALL)
    bus.write(0x4002_0014, 4, 0x55)
    assert bus.read(0x4002_0014, 4) == 0x55


def test_bytes_and_halfwords_of_registers_can_be_written(rcc: Rcc, around: Surroundings) -> None:
    bus = Bus([Peripheral("test", 0x1000, {0: 0x1122_3344}, around)], around)
    bus.write(0x1001, 1, 0xAB)
    bus.write(0x1002, 2, 0xCDEF)
    assert bus.read(0x1000, 4) == 0xCDEF_AB44
    assert (bus.read(0x1001, 1), bus.read(0x1002, 2)) == (0xAB, 0xCDEF)


def test_pins_follow_bsrr_and_pulls(rcc: Rcc, around: Surroundings) -> None:
    port = Gpio("C", rcc, around)
    port.write(0x00, 1 << 2 * 3 | 2 << 2 * 9, ALL)  # pin 3 output, pin 9 alternate
    port.write(0x24, 7 << 4, ALL)
    port.write(0x18, 1 << 3, ALL)
    port.write(0x0C, 1 << 2 * 5, ALL)
    assert port.read(0x10) == 1 << 3 | 1 << 5
    port.write(0x18, 1 << 19, ALL)
    assert port.read(0x14) == 0
    assert port.alternate_function(9) == 7
    assert port.alternate_function(3) is None


def test_the_cycle_counter_needs_its_lock_open_and_trace_on(around: Surroundings) -> None:
    trace = [False]
    dwt = Dwt(lambda: around.time, lambda: trace[0], around)
    dwt.write(0x00, 1, ALL)
    assert "locked" in around.warnings[0]
    dwt.write(0xFB0, 0xC5AC_CE55, ALL)
    dwt.write(0x00, 1, ALL)
    assert "TRCENA" in around.warnings[1]
    trace[0] = True
    dwt.write(0x00, 1, ALL)
    around.time = 1000
    assert dwt.read(0x04) == 1000
    dwt.write(0x04, 0xFFFF_FFF0, ALL)
    around.time = 1032
    assert dwt.read(0x04) == 0x10
    dwt.write(0x00, 0, ALL)
    around.time = 5000
    assert dwt.read(0x04) == 0x10


def test_regions_of_the_memory_protection_unit(around: Surroundings) -> None:
    mpu = Mpu(around)
    seen: dict[int, Restriction | None] = {}
    mpu.on_change = seen.__setitem__
    mpu.write(0xD9C, 0x2000_0000 | 1 << 4 | 3, ALL)
    mpu.write(0xDA0, 6 << 24 | (12 - 1) << 1 | 1, ALL)
    assert seen[3] is None
    mpu.write(0xD94, 5, ALL)
    assert seen[3] == Restriction(0x2000_0000, 0x2000_1000, MPU_READ | MPU_EXECUTE)
    assert mpu.read(0xD98) == 3
    assert mpu.read(0xD9C) == 0x2000_0003
    mpu.write(0xDA4, 1 << 4 | 0, ALL)  # by the aliases
    mpu.write(0xDA8, 1 << 28 | (8 - 1) << 1 | 1, ALL)
    assert seen[0] == Restriction(0, 0x100, 0)
    mpu.reset()
    assert seen == dict.fromkeys(range(8))


@pytest.fixture
def receiver() -> Receiver:
    return Receiver(np.zeros(at.PAGE_TABLE, np.int64))


def test_a_byte_that_is_asked_for_is_there(receiver: Receiver) -> None:
    receiver.feed(b"abc")
    for byte in b"abc":
        assert receiver.advance(1000, 100) == 0
        assert receiver.full
        assert receiver.take() == byte
    assert not receiver.coming


def test_bytes_run_over_each_other_if_nobody_takes_them(receiver: Receiver) -> None:
    receiver.feed(b"abcdef")
    receiver.advance(1000, 100)
    assert receiver.advance(1250, 100) == 2
    assert receiver.take() == ord("a")
    assert receiver.advance(1260, 100) == 0
    assert receiver.take() == ord("d")


def test_a_pause_of_the_host_runs_nothing_over(receiver: Receiver) -> None:
    receiver.feed(b"a")
    receiver.advance(1000, 100)
    receiver.take()
    receiver.feed(b"bc")
    assert receiver.advance(100_000, 100) == 0
    assert receiver.take() == ord("b")


def test_more_bytes_than_the_ring_holds_come_in_order(receiver: Receiver) -> None:
    data = bytes(range(251)) * 60
    receiver.feed(data)
    received = bytearray()
    time = 0
    while receiver.coming:
        receiver.advance(time, 100)
        received.append(receiver.take())
        time += 100
    assert received == data


def test_the_transmitter_holds_two_bytes() -> None:
    line = Transmitter()
    assert line.put(0, 100)
    assert line.put(10, 100)
    assert not line.put(20, 100)
    assert line.leaving(50) == 2
    assert not line.ask(60, 100)
    assert not line.ask(60, 100)
    assert line.ask(60, 100)
    assert line.leaving(60) == 0


INTERRUPT_TEST = """
.equ SCS, 0xE000E000
  ldr r0, =SCS
  ldr r4, =results
  movs r5, #0
  {setup}
1: adds r6, #1
  ldr r1, [r4]
  cmp r1, #{wanted}
  bne 1b
  movs r1, #0
  str r1, [r0, #0x10]
  b halt
.ltorg
.global handler
.type handler, %function
.thumb_func
handler:
  mrs r1, ipsr
  str r1, [r4, #4]
  vmov s0, r1
  ldr r1, [r4]
  adds r1, #1
  str r1, [r4]
  bx lr
"""
CLEAR_RESULTS = "str r5, [r4]\n movs r6, #0\n"


@pytest.mark.parametrize(
    ("setup", "exception", "wanted"),
    [
        ("movw r1, #999\n str r1, [r0, #0x14]\n movs r1, #7\n str r1, [r0, #0x10]", 15, 5),
        ("mov r1, #0x10000000\n ldr r2, =0xD04\n str r1, [r0, r2]", 14, 1),
        ("movs r1, #1 << 5\n str r1, [r0, #0x104]\n movs r2, #37\n ldr r3, =0xF00\n str r2, [r0, r3]", 53, 1),
        ("svc #0", 11, 1),
    ],
    ids=["SysTick", "PendSV", "USART1", "SVC"],
)
def test_exceptions_are_taken_and_return(setup: str, exception: int, wanted: int) -> None:
    """The main loop's FPU registers and flags survive."""
    board = run_assembly(
        "vmov.f32 s0, #1.5\n" + INTERRUPT_TEST.format(setup=CLEAR_RESULTS + setup, wanted=wanted),
        limit=100_000,
    )
    assert not board.faults
    assert word(board, RESULTS) == wanted
    assert word(board, RESULTS + 4) == exception
    assert board.chip.cpu.exception == 0
    assert board.chip.cpu.unicorn.reg_read(79) == 0x3FC0_0000  # s0


def test_systick_interrupts_at_its_period() -> None:
    setup = CLEAR_RESULTS + "movw r1, #999\n str r1, [r0, #0x14]\n movs r1, #7\n str r1, [r0, #0x10]"
    board = run_assembly(INTERRUPT_TEST.format(setup=setup, wanted=5), limit=100_000)
    assert board.instructions == pytest.approx(5000, abs=50)


def test_primask_holds_interrupts_back() -> None:
    setup = CLEAR_RESULTS + (
        "cpsid i\n mov r1, #0x10000000\n ldr r2, =0xD04\n str r1, [r0, r2]\n movw r3, #2000\n"
        "2: subs r3, #1\n bne 2b\n ldr r7, [r4]\n str r7, [r4, #8]\n cpsie i"
    )
    board = run_assembly(INTERRUPT_TEST.format(setup=setup, wanted=1), limit=100_000)
    assert word(board, RESULTS + 8) == 0
    assert word(board, RESULTS) == 1


def test_a_sleeping_board_waits_and_a_timer_wakes_it() -> None:
    setup = CLEAR_RESULTS + "movw r1, #50000\n str r1, [r0, #0x14]\n movs r1, #7\n str r1, [r0, #0x10]\n wfi"
    board = VirtualBoard(BOARD, assemble(INTERRUPT_TEST.format(setup=setup, wanted=1)))
    assert board.run(1_000_000) is Outcome.IDLE
    assert not board.ticking or board.instructions < 1000
    assert board.run(1_000_000) is Outcome.IDLE  # the loop ran, and then halt
    assert word(board, RESULTS) == 1


def test_identification_registers() -> None:
    board = run_assembly(
        "ldr r0, =0xE000ED00\n ldr r1, [r0]\n ldr r5, =results\n str r1, [r5]\n"
        "ldr r1, [r0, #0x80]\n str r1, [r5, #4]\n"
        "ldr r0, =0xE0042000\n ldr r1, [r0]\n str r1, [r5, #8]\n b halt"
    )
    assert word(board, RESULTS) == 0x411F_C271
    assert word(board, RESULTS + 4) == 0xF003_E019  # 32 sets of 4 ways of 32 bytes
    assert word(board, RESULTS + 8) & 0xFFF == 0x449


def test_a_cache_must_be_invalidated_before_it_is_turned_on() -> None:
    board = run_assembly("ldr r0, =0xE000ED14\n ldr r1, [r0]\n orr r1, #0x30000\n str r1, [r0]\n b halt")
    assert len(board.warnings) == 2
    assert "(test+0x" in board.warnings[0]
