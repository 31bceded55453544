"""A board in Python, on a pty: the firmware's side of docs/protocol.md, written without tools.link.

Its model adds the input's bytes to a ramp: output[i] = (sum(input) + i) mod 256, as int8.
"""

from __future__ import annotations

import os
import pty
import random
import select
import struct
import threading
import tty
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

MODEL_SHA256 = "ab" * 32
FAULT_RECORD = struct.pack(
    "<14I", 3, 0x08001234, 0x080011F1, 0x01000000, 0x20000FE0, *range(5), 0x82, 1 << 30, 0x20050000, 0
)


def expected_output(data: bytes, size: int) -> bytes:
    """Output of the fake's model."""
    return bytes((sum(data) + index) % 256 for index in range(size))


def write_least_image(path: Path) -> Path:
    """Write the least that is an image: an ARM ELF header and one word of flash at 0x08000000."""
    header = struct.pack("<16sHHIIIIIHHHHHH", b"\x7fELF\1\1\1", 2, 40, 1, 0, 52, 0, 0, 52, 32, 1, 40, 0, 0)
    segment = struct.pack("<8I", 1, 84, 0x08000000, 0x08000000, 4, 4, 5, 4)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + segment + b"\0\0\0\x20")
    return path


def stuff(raw: bytes) -> bytes:
    """COBS, encoded block by block."""
    out = bytearray()
    for part in raw.split(b"\0"):
        assert len(part) < 254
        out += bytes([len(part) + 1]) + part
    return bytes(out)


def unstuff(encoded: bytes) -> bytes | None:
    """COBS, decoded; None for damage. No block of a frame is full (254 bytes)."""
    raw = bytearray()
    position = 0
    while position < len(encoded):
        end = position + encoded[position]
        if end > len(encoded):
            return None
        raw += encoded[position + 1 : end]
        if end < len(encoded):
            raw.append(0)
        position = end
    return bytes(raw)


@dataclass
class Noise:
    """Probability for each byte to get lost, flipped or doubled, in each direction."""

    rate: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def apply(self, data: bytes) -> bytes:
        out = bytearray()
        for byte in data:
            if self._random.random() >= self.rate:
                out.append(byte)
                continue
            kind = self._random.randrange(3)
            if kind == 1:
                out.append(byte ^ (1 << self._random.randrange(8)))
            elif kind == 2:
                out += bytes([byte, byte])
        return bytes(out)


@dataclass
class FakeDevice:
    """Serves in a thread while the context is open; what goes wrong is chosen by the fields."""

    input_bytes: int = 1000
    input_shape: tuple[int, ...] = ()
    output_bytes: int = 10
    layers: int = 70
    noise: Noise = field(default_factory=Noise)
    protocol: int = 1
    model_sha256: str = MODEL_SHA256
    board: str = "fake"
    engine: str = "aot"
    silent: bool = False
    garbage: bool = False
    faults_in_run: bool = False
    restarts_before_run: bool = False
    unplug_after: int | None = None
    wrong_outputs: bool = False
    requests: int = field(default=0, init=False)
    runs: int = field(default=0, init=False)

    def __enter__(self) -> Self:
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.url = os.ttyname(self._slave)
        self._stop, self._stopped = os.pipe()
        self._buffer = bytearray()
        self._fault = b""
        self._faults = 0
        self._dropped = 0
        self._start_anew()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self._stopped, b"x")
        self._thread.join()
        for handle in (self._master, self._slave, self._stop, self._stopped):
            if handle >= 0:
                os.close(handle)

    @property
    def description(self) -> str:
        """Text of HELLO."""
        shape = "x".join(str(size) for size in self.input_shape or (self.input_bytes,))
        return (
            f"protocol={self.protocol}\nboard={self.board}\nchip=STM32F746NG\nengine={self.engine}\n"
            f"model=fake model\nmodel_sha256={self.model_sha256}\ngit=0123abc\ncompiler=none 1.0\nflags=-O2\n"
            f"clock_hz=216000000\ncounter=cycles\narena_bytes=4096\nlayers={self.layers}\n"
            f"ops=CONV_2D,FULLY_CONNECTED\ninput0=int8:1x{shape}:0.5:-128\n"
            f"output0=int8:1x{self.output_bytes}:0.00390625:-128\nextra={'x' * 200}\n"
        )

    def _start_anew(self) -> None:
        self._input = bytearray(self.input_bytes)
        self._written = 0
        self._output: bytes | None = None
        self._last_run: tuple[int, bytes] | None = None

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select([self._master, self._stop], [], [])
            if self._stop in ready:
                return
            self._buffer += self.noise.apply(os.read(self._master, 4096))
            while b"\0" in self._buffer:
                encoded, _, rest = bytes(self._buffer).partition(b"\0")
                self._buffer = bytearray(rest)
                if encoded:
                    self._frame(encoded)
                if self._master < 0:
                    return

    def _frame(self, encoded: bytes) -> None:
        raw = unstuff(encoded)
        if raw is None or not 10 <= len(raw) <= 250 or len(raw) != 10 + struct.unpack_from("<H", raw, 4)[0]:
            self._dropped += 1
            return
        if struct.unpack_from("<I", raw, len(raw) - 4)[0] != zlib.crc32(raw[:-4]):
            self._dropped += 1
            return
        self.requests += 1
        if self.unplug_after is not None and self.requests > self.unplug_after:
            os.close(self._master)
            os.close(self._slave)
            self._master = self._slave = -1
            return
        version, kind, sequence, _ = struct.unpack_from("<BBHH", raw)
        if self.silent:
            return
        if self.garbage:
            os.write(self._master, b"m-ready\r\n")
            return
        if version != 1:
            error, payload = 9, struct.pack("<BI", 9, version)
        else:
            error, payload = self._answer(kind, sequence, raw[6:-4])
        header = struct.pack("<BBHH", self.protocol, 0xFF if error else kind | 0x80, sequence, len(payload))
        reply = stuff(header + payload + struct.pack("<I", zlib.crc32(header + payload))) + b"\0"
        os.write(self._master, self.noise.apply(reply))

    def _answer(self, kind: int, sequence: int, payload: bytes) -> tuple[int, bytes]:
        handlers = {
            1: self._hello,
            2: self._write,
            4: self._read,
            5: self._memory,
            6: self._profile,
            7: self._last_fault,
        }
        if kind == 3:
            code, result = self._run(sequence, payload)
        elif kind == 8:
            code, result = (2, len(payload)) if payload else (0, b"")
            if not payload:
                self._start_anew()
        elif kind == 9:
            code, result = 0, payload
        elif kind in handlers:
            code, result = handlers[kind](payload)
        else:
            code, result = 1, kind
        if not code:
            assert isinstance(result, bytes)
            return 0, result
        return code, struct.pack("<BI", code, int(result)) + (self._fault if code == 8 else b"")

    def _hello(self, payload: bytes) -> tuple[int, bytes | int]:
        if len(payload) != 2:
            return 2, len(payload)
        (offset,) = struct.unpack("<H", payload)
        text = self.description.encode()
        if offset > len(text):
            return 4, offset
        return 0, struct.pack("<HH", len(text), offset) + text[offset : offset + 236]

    def _write(self, payload: bytes) -> tuple[int, bytes | int]:
        if len(payload) < 5:
            return 2, len(payload)
        tensor, offset = struct.unpack_from("<BI", payload)
        if tensor:
            return 3, tensor
        data = payload[5:]
        if offset > self._written or offset + len(data) > self.input_bytes:
            return 4, offset
        self._input[offset : offset + len(data)] = data
        self._written = max(self._written, offset + len(data))
        self._output = None
        return 0, b""

    def _run(self, sequence: int, payload: bytes) -> tuple[int, bytes | int]:
        if len(payload) != 1:
            return 2, len(payload)
        if self._last_run is not None and self._last_run[0] == sequence:
            return 0, self._last_run[1]
        if self.restarts_before_run:
            self._start_anew()
        if self._written < self.input_bytes and not payload[0] & 2:
            return 5, 0
        if self.faults_in_run:
            self._fault = FAULT_RECORD
            self._faults += 1
            self._start_anew()
            return 8, 0
        self._output = expected_output(bytes(self._input), self.output_bytes)
        if self.wrong_outputs:
            self._output = self._output[::-1]
        self._written = 0
        self.runs += 1
        reply = struct.pack("<QI", 123_456, 700)
        self._last_run = (sequence, reply)
        return 0, reply

    def _read(self, payload: bytes) -> tuple[int, bytes | int]:
        if len(payload) != 7:
            return 2, len(payload)
        tensor, offset, count = struct.unpack("<BIH", payload)
        if tensor:
            return 3, tensor
        if self._output is None:
            return 6, 0
        if count > 240 or offset + count > self.output_bytes:
            return 4, offset
        return 0, self._output[offset : offset + count]

    def _memory(self, payload: bytes) -> tuple[int, bytes | int]:
        if payload:
            return 2, len(payload)
        return 0, struct.pack("<8I", 4096, 16, 512, 4096, 700, 65536, self._dropped, self._faults)

    def _profile(self, payload: bytes) -> tuple[int, bytes | int]:
        if len(payload) != 2:
            return 2, len(payload)
        (first,) = struct.unpack("<H", payload)
        if first > self.layers:
            return 4, first
        counts = [100 + layer for layer in range(first, min(self.layers, first + 59))]
        return 0, struct.pack(f"<HH{len(counts)}I", self.layers, first, *counts)

    def _last_fault(self, payload: bytes) -> tuple[int, bytes | int]:
        if payload:
            return 2, len(payload)
        return 0, self._fault
