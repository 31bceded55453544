"""USART1: the link to the host. RM0385 31.8."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tools.virtual_board.peripherals.base import Peripheral, Surroundings
from tools.virtual_board.peripherals.clocks import Rcc
from tools.virtual_board.peripherals.gpio import Gpio
from tools.virtual_board.peripherals.line import Receiver, Transmitter

INTERRUPT = 37
_CR1, _CR2, _CR3, _BRR, _RQR, _ISR, _ICR, _RDR, _TDR = 0x00, 0x04, 0x08, 0x0C, 0x18, 0x1C, 0x20, 0x24, 0x28
_UE, _RE, _TE = 1 << 0, 1 << 2, 1 << 3
_RXNEIE, _TCIE, _TXEIE = 1 << 5, 1 << 6, 1 << 7
_OVER8 = 1 << 15
_FORMAT_CR1 = 1 << 28 | 1 << 12 | 1 << 10  # word length, parity
_FORMAT_CR2 = 3 << 12 | 1 << 19 | 7 << 16  # stop bits, MSB first, inversion
_DMA_CR3 = 3 << 6
_OVRDIS = 1 << 12
_ORE, _RXNE, _TC, _TXE = 1 << 3, 1 << 5, 1 << 6, 1 << 7
_TEACK, _REACK = 1 << 21, 1 << 22
_BITS_PER_BYTE = 10
_BAUD_TOLERANCE = 0.025
_AF7 = 7
_TX_PIN, _RX_PIN = 9, 7
# A poll that finds nothing this many times in a row, each time within so many instructions, is waiting.
_IDLE_POLLS = 4
_IDLE_DISTANCE = 400


@dataclass(frozen=True)
class _Settings:
    """What registers, pins and clocks make of the line; byte_time in instructions."""

    byte_time: int
    garbled: bool
    receives: bool
    sends: bool
    rx_connected: bool
    tx_connected: bool


class Usart1(Peripheral):
    """The USART, its pins and the queues to and from the host."""

    def __init__(
        self,
        rcc: Rcc,
        ports: tuple[Gpio, Gpio],
        baud: int,
        words: npt.NDArray[np.int64],
        board: Surroundings,
    ) -> None:
        resets = dict.fromkeys(range(0, 0x2C, 4), 0) | {_ISR: 0x0200_00C0}
        super().__init__("USART1", 0x4001_1000, resets, board)
        self._rcc = rcc
        self._tx_port, self._rx_port = ports
        self._baud = baud
        self._receiver = Receiver(words)
        self._transmitter = Transmitter()
        self._overrun = False
        self._complete = True
        self._empty_polls = 0
        self._last_poll = 0
        self._sent = bytearray()
        self._known_settings: _Settings | None = None
        self.idle = False  # firmware waits for a byte and there is none

    @property
    def clocked(self) -> bool:
        """Whether RCC_APB2ENR.USART1EN is set."""
        return self._rcc.usart1_clocked

    def reset(self) -> None:
        """Return to the state after reset; bytes that have not left are lost."""
        if lost := self._transmitter.leaving(self.board.now()):
            del self._sent[-lost:]
            self.board.warn(f"reset while {lost} bytes were still leaving USART1: wait for TC first")
        super().reset()
        self._receiver.reset()
        self._known_settings = None
        self._transmitter = Transmitter()
        self._overrun = self.idle = False
        self._complete = True
        self._empty_polls = 0

    # The host's side.

    def feed(self, data: bytes) -> None:
        """Put bytes on the line to the chip."""
        self._receiver.feed(data)
        self._empty_polls = 0

    def reconsider(self) -> None:
        """Look at registers, pins and clocks again, for they may have changed."""
        self._known_settings = None
        self._receiver.forbid_quick_reads()

    @property
    def _settings(self) -> _Settings:
        if self._known_settings is None:
            control = self.values[_CR1]
            self._known_settings = _Settings(
                byte_time=int(_BITS_PER_BYTE * self._rcc.core_hz / self._baud),
                garbled=abs(self._actual_baud / self._baud - 1) > _BAUD_TOLERANCE,
                receives=control & (_UE | _RE) == _UE | _RE,
                sends=control & (_UE | _TE) == _UE | _TE,
                rx_connected=self._rx_port.alternate_function(_RX_PIN) == _AF7,
                tx_connected=self._tx_port.alternate_function(_TX_PIN) == _AF7,
            )
        return self._known_settings

    def take(self) -> bytes:
        """Return what the chip has sent since the last call."""
        data = bytes(self._sent)
        self._sent.clear()
        return data

    # The chip's side.

    @property
    def interrupt(self) -> bool:
        """Whether the interrupt line is active."""
        control, status = self.values[_CR1], self._status()
        wanted = _RXNEIE if status & (_RXNE | _ORE) else 0
        wanted |= (_TXEIE if status & _TXE else 0) | (_TCIE if status & _TC else 0)
        return bool(control & _UE and control & wanted)

    def read(self, offset: int) -> int:
        """Return a register; RDR gives up its byte."""
        if offset == _ISR:
            return self._poll()
        if offset == _RDR:
            self._receive()
            if self._receiver.full:
                return self._on_line(self._receiver.take())
            self.board.warn("USART1_RDR is read although no byte was received")
            return 0
        return 0 if offset in (_RQR, _ICR, _TDR) else self.values[offset]

    def store(self, offset: int, value: int) -> None:
        """Take a register's new value."""
        if offset == _TDR:
            self._receiver.forbid_quick_reads()
            self._transmit(value & 0xFF)
            return
        self.reconsider()
        if offset == _ICR:
            self._overrun &= not value & _ORE
            self._complete &= not value & _TC
        elif offset == _RQR:
            if value & 1 << 3 and self._receiver.full:
                self._receiver.take()
        elif offset in (_BRR, _CR2, _CR3) and self.values[_CR1] & _UE and value != self.values[offset]:
            self.board.warn("USART1's BRR, CR2 or CR3 is written while UE is set: the write has no effect")
        elif offset not in (_ISR, _RDR):
            self.values[offset] = value
            if offset == _CR1 and value & _UE:
                self._check_settings()

    def _check_settings(self) -> None:
        if self.values[_CR1] & _FORMAT_CR1 or self.values[_CR2] & _FORMAT_CR2:
            self.board.warn("USART1 is not set to 8 bits, no parity, one stop bit")
        if self.values[_CR3] & _DMA_CR3:
            self.board.warn("USART1's DMA requests are not modelled")
        if self._settings.garbled:
            self.board.warn(
                f"USART1 runs at {self._actual_baud:.0f} baud (BRR {self.values[_BRR]}, "
                f"clock {self._rcc.usart1_hz} Hz) instead of {self._baud}: bytes come out as garbage"
            )

    @property
    def _actual_baud(self) -> float:
        divisor = self.values[_BRR]
        clock = self._rcc.usart1_hz
        if self.values[_CR1] & _OVER8:
            divisor = divisor & 0xFFF0 | (divisor & 7) << 1
            clock *= 2
        return clock / divisor if divisor else 0.0

    def _on_line(self, byte: int) -> int:
        """Return what the other end makes of a byte."""
        return (byte * 7 + 0x55) & 0xFF if self._settings.garbled else byte

    def _warn_of_pin(self, port: Gpio, pin: int, name: str) -> None:
        self.board.warn(
            f"USART1 {name} is not connected: {port.name} pin {pin} is not in alternate function 7"
        )

    def read_without_clock(self, offset: int) -> int:
        """Return 0; firmware that polls that waits for ever, and what the host sends is lost."""
        if offset == _ISR:
            self._receiver.drop_all()
            self._note_poll(0)
        return 0

    def _poll(self) -> int:
        status = self._status()
        self._note_poll(status)
        return status

    def _note_poll(self, status: int) -> None:
        """Find out whether firmware does nothing but wait."""
        now = self.board.now()
        near = now - self._last_poll <= _IDLE_DISTANCE
        self._last_poll = now
        self._empty_polls = self._empty_polls + 1 if near and not status & _RXNE else 0
        self.idle = self._empty_polls >= _IDLE_POLLS and not self._receiver.coming
        if self.idle:
            self.board.rest()

    def _status(self) -> int:
        self._receive()
        settings = self._settings
        status = _TXE
        status |= _TEACK if settings.sends else 0
        status |= _REACK if settings.receives else 0
        status |= _ORE if self._overrun else 0
        if self._transmitter.ask(self.board.now(), settings.byte_time) and self._complete:
            status |= _TC
            if settings.receives and settings.rx_connected and not (self._overrun or settings.garbled):
                self._receiver.allow_quick_reads(status, settings.byte_time)
        return status | (_RXNE if self._receiver.full else 0)

    def _receive(self) -> None:
        """Let the bytes that have come by now into RDR, or run over it."""
        if not self._receiver.coming:
            return
        settings = self._settings
        if not settings.receives or not settings.rx_connected:
            if not settings.rx_connected:
                self._warn_of_pin(self._rx_port, _RX_PIN, "RX")
            lost = self._receiver.drop_all()
            self.board.warn(f"{lost} bytes from the host are lost: USART1 does not receive")
        elif self._receiver.advance(self.board.now(), settings.byte_time):
            self._overrun |= not self.values[_CR3] & _OVRDIS
            self.board.warn("USART1 overrun: a byte was not read before the next one came")

    def _transmit(self, byte: int) -> None:
        self._empty_polls = 0
        self._complete = True
        settings = self._settings
        if not settings.sends:
            self.board.warn("USART1_TDR is written while the transmitter is off: the byte is lost")
            return
        if not self._transmitter.put(self.board.now(), settings.byte_time):
            self.board.warn("USART1_TDR is written while it is full (TXE is 0): a byte is lost")
            del self._sent[-1:]
        if settings.tx_connected:
            self._sent.append(self._on_line(byte))
        else:
            self._warn_of_pin(self._tx_port, _TX_PIN, "TX")
