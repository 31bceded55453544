"""The serial line, both ways. Time on it is counted in instructions.

It is never waited for: whenever firmware asks whether a byte has come or gone, the line is taken to have got
that far. So firmware that asks sees no delay; firmware that does not ask, and overwrites the data register,
lets it overrun or resets the chip before the last byte has left, loses bytes as it would on the chip.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tools.virtual_board.native import layout as at

_RING_MASK = at.UART_RING_BYTES - 1


class Receiver:
    """Bytes on their way to the chip, in the array that native code reads them from."""

    def __init__(self, words: npt.NDArray[np.int64]) -> None:
        self._words = words
        self._waiting = bytearray()  # what the ring has no room for

    def reset(self) -> None:
        """Forget the byte in the data register."""
        if self.full:
            self.take()
        self._words[at.UART_TIME] = 0
        self._words[at.UART_QUICK] = 0

    @property
    def full(self) -> bool:
        """Whether a byte waits in the data register."""
        return bool(self._words[at.UART_FULL])

    @property
    def coming(self) -> int:
        """Bytes that have not reached the data register."""
        head, tail, full = (int(self._words[place]) for place in (at.UART_HEAD, at.UART_TAIL, at.UART_FULL))
        return head - tail - full + len(self._waiting)

    def feed(self, data: bytes) -> None:
        """Put bytes on the line."""
        if not self.coming:
            self._words[at.UART_BURST] = 1
        self._waiting += data
        self._fill_ring()

    def _fill_ring(self) -> None:
        head, tail = int(self._words[at.UART_HEAD]), int(self._words[at.UART_TAIL])
        count = min(len(self._waiting), at.UART_RING_BYTES - (head - tail))
        places = at.UART_RING + (np.arange(head, head + count) & _RING_MASK)
        self._words[places] = np.frombuffer(bytes(self._waiting[:count]), np.uint8)
        self._words[at.UART_HEAD] += count
        del self._waiting[:count]

    def advance(self, now: int, byte_time: int) -> int:
        """Let come what has come by `now`, a byte each `byte_time`; return how many bytes were run over."""
        words = self._words
        overrun = 0
        while self.coming:
            self._fill_ring()
            due = int(words[at.UART_TIME]) + byte_time
            if not self.full:
                words[at.UART_TIME] = now if words[at.UART_BURST] else min(now, due)
                words[at.UART_BURST] = 0
                words[at.UART_FULL] = 1
            elif now >= due:
                words[at.UART_TIME] = due
                overrun += 1
                self._drop_second()
            else:
                break
        return overrun

    def _drop_second(self) -> None:
        """Lose the byte after the one in the data register."""
        tail = int(self._words[at.UART_TAIL])
        kept = self._words[at.UART_RING + (tail & _RING_MASK)]
        self._words[at.UART_RING + (tail + 1 & _RING_MASK)] = kept
        self._words[at.UART_TAIL] += 1

    def take(self) -> int:
        """Take the byte out of the data register."""
        byte = int(self._words[at.UART_RING + (int(self._words[at.UART_TAIL]) & _RING_MASK)])
        self._words[at.UART_TAIL] += 1
        self._words[at.UART_FULL] = 0
        return byte

    def drop_all(self) -> int:
        """Lose all bytes that are on their way; return how many."""
        lost = self.coming
        self._waiting.clear()
        self._words[at.UART_HEAD] = self._words[at.UART_TAIL] + self.full
        return lost

    def allow_quick_reads(self, status: int, byte_time: int) -> None:
        """Let native code answer: `status` is what the status register reads without RXNE."""
        self._words[at.UART_STATUS] = status
        self._words[at.UART_BYTE_TIME] = byte_time
        self._words[at.UART_QUICK] = 1

    def forbid_quick_reads(self) -> None:
        """Let Python answer all reads."""
        self._words[at.UART_QUICK] = 0


class Transmitter:
    """Bytes on their way from the chip: a data register and a shift register."""

    def __init__(self) -> None:
        self._shifting_until = 0
        self._held = False  # a byte waits in the data register for the shift register
        self._asked = False  # firmware has seen that the last byte is still leaving

    def leaving(self, now: int) -> int:
        """Return how many bytes have not left."""
        return 0 if now >= self._shifting_until else 2 if self._held else 1

    def put(self, now: int, byte_time: int) -> bool:
        """Write the data register; return False where that overwrites a byte."""
        self._asked = False
        if self._held and now >= self._shifting_until:
            self._held = False
            self._shifting_until += byte_time
        if self._held:
            return False
        if now < self._shifting_until:
            self._held = True
        else:
            self._shifting_until = now + byte_time
        return True

    def ask(self, now: int, byte_time: int) -> bool:
        """Return whether all has left. The data register is empty once asked."""
        if self._held:
            self._held = False
            self._shifting_until = max(now, self._shifting_until) + byte_time
            return False
        if now < self._shifting_until and not self._asked:
            self._asked = True
            return False
        self._shifting_until = min(now, self._shifting_until)
        return True
