"""The link to the host works when clocks, pins and baud rate are right, and tells what is wrong when not."""

from __future__ import annotations

import pytest
from virtual_firmware import BOARD, echo_image

from tools.virtual_board.board import Outcome, VirtualBoard
from tools.virtual_board.faults import FaultKind


class Host:
    """The other end of the line."""

    def __init__(self, *defines: str) -> None:
        self.heard = bytearray()
        self.board = VirtualBoard(BOARD, echo_image(*defines), self.heard.extend)
        self.outcome = self.board.run(10_000_000)

    def say(self, data: bytes) -> bytes:
        self.heard.clear()
        self.board.uart_send(data)
        self.outcome = self.board.run(50_000_000)
        return bytes(self.heard)

    def warned_of(self, text: str) -> bool:
        return any(text in warning for warning in self.board.warnings)


def test_bytes_come_back_and_nothing_is_amiss() -> None:
    host = Host()
    assert host.outcome is Outcome.IDLE
    data = bytes(range(256)).replace(b"R", b"").replace(b"F", b"").replace(b"L", b"") * 20
    assert host.say(data) == data
    assert host.outcome is Outcome.IDLE
    assert host.board.warnings == []
    assert host.board.faults == []


def test_an_idle_board_executes_next_to_nothing() -> None:
    host = Host()
    before = host.board.instructions
    for _ in range(10):
        assert host.board.run(1_000_000_000) is Outcome.IDLE
    assert host.board.instructions - before < 1000


@pytest.mark.parametrize(
    ("define", "warning"),
    [
        ("NO_GPIO_CLOCK", "GPIOA is used while its clock is off"),
        ("NO_UART_CLOCK", "USART1 is used while its clock is off"),
        ("PIN_FUNCTION=8", "USART1 RX is not connected: GPIOB pin 7 is not in alternate function 7"),
        ("BRR=469", "bytes come out as garbage"),
        ("NO_OVER_DRIVE", "216000000 Hz without over-drive"),
        ("WAIT_STATES=6", "6 flash wait states; it needs 7"),
        ("NO_PLL_WAIT", "RCC_CFGR selects a clock that is not ready"),
    ],
)
def test_a_classic_mistake_is_named(define: str, warning: str) -> None:
    host = Host(define)
    answer = host.say(b"hello")
    assert host.warned_of(warning), host.board.warnings
    harmless_here = define in ("NO_OVER_DRIVE", "WAIT_STATES=6")
    assert (answer == b"hello") is harmless_here


def test_a_wrong_pin_for_sending_is_named() -> None:
    host = Host("PIN_FUNCTION=7")
    port_a = next(peripheral for peripheral in host.board.chip.peripherals if peripheral.name == "GPIOA")
    port_a.values[0x00] = 0
    host.board.chip.usart.reconsider()
    assert host.say(b"x") == b""
    assert host.warned_of("USART1 TX is not connected: GPIOA pin 9")


def test_a_firmware_that_does_not_wait_for_txe_loses_bytes() -> None:
    assert Host("ECHOES=3").say(b"ab") == b"aaabbb"
    host = Host("NO_TXE_WAIT", "ECHOES=3")
    assert len(host.say(b"ab")) < 6
    assert host.warned_of("USART1_TDR is written while it is full")


def test_a_firmware_that_is_slower_than_the_line_is_run_over() -> None:
    host = Host("WORK=10000")
    answer = host.say(b"abcdefgh")
    assert answer[:1] == b"a"
    assert len(answer) < 8
    assert host.warned_of("USART1 overrun")


def test_a_reset_waits_for_the_last_byte_or_loses_it() -> None:
    patient = Host()
    assert patient.say(b"R") == b"R"
    hasty = Host("NO_TC_WAIT")
    assert hasty.say(b"R") == b""
    assert hasty.warned_of("reset while 1 bytes were still leaving")
    assert patient.board.resets == hasty.board.resets == 1


def test_a_reset_keeps_ram_and_starts_again() -> None:
    host = Host()
    host.board.chip.memory.write(0x2000_0800, b"kept")
    host.say(b"R")
    assert host.board.chip.memory.read(0x2000_0800, 4) == b"kept"
    assert host.say(b"again") == b"again"
    assert host.board.warnings == []


def test_a_fault_is_reported_with_its_function() -> None:
    host = Host()
    assert host.say(b"F") == b"F"
    [report] = host.board.faults
    assert report.kind is FaultKind.WRITE
    assert "(test+0x" in report.function
    assert "0x30000000" in str(report)


def test_bytes_that_come_before_the_receiver_is_on_are_lost() -> None:
    board = VirtualBoard(BOARD, echo_image(), lambda _data: None)
    board.uart_send(b"early")
    board.run(10_000_000)
    assert board.warnings == []  # they wait until the firmware looks at the line
    heard = bytearray()
    board = VirtualBoard(BOARD, echo_image("NO_UART_CLOCK"), heard.extend)
    board.uart_send(b"early")
    board.run(1_000_000)
    assert heard == b""
