"""The wire as docs/protocol.md says it, from other people's parts: `cobs` and zlib."""

from __future__ import annotations

import struct
import time
import zlib
from dataclasses import dataclass

from cobs import cobs
from serial import Serial

HELLO, WRITE, RUN, READ, MEMORY, PROFILE, FAULT, RESET, ECHO = range(1, 10)
ERROR = 0xFF


@dataclass(frozen=True)
class Reply:
    type: int
    sequence: int
    payload: bytes

    @property
    def error(self) -> tuple[int, int]:
        """Code and detail of an error reply."""
        assert self.type == ERROR, self
        code, detail = struct.unpack_from("<BI", self.payload)
        return code, detail


def encode(message: int, sequence: int, payload: bytes = b"", version: int = 1) -> bytes:
    body = struct.pack("<BBHH", version, message, sequence, len(payload)) + payload
    return bytes(cobs.encode(body + struct.pack("<I", zlib.crc32(body)))) + b"\0"


def decode(encoded: bytes) -> Reply:
    """Decode what stands between two delimiters; any damage is an assertion error."""
    raw = bytes(cobs.decode(encoded))
    version, message, sequence, length = struct.unpack_from("<BBHH", raw)
    assert version == 1
    assert len(raw) == 6 + length + 4
    assert struct.unpack("<I", raw[-4:])[0] == zlib.crc32(raw[:-4])
    return Reply(message, sequence, raw[6:-4])


class Wire:
    """A host that never repeats a request: every frame that it gets must be sound."""

    def __init__(self, port: Serial) -> None:
        self.port = port
        self._sequence = 0

    def send(self, data: bytes) -> None:
        self.port.write(data)

    def replies_until(self, sequence: int, seconds: float = 10) -> list[Reply]:
        """All replies up to the one with this sequence number."""
        replies: list[Reply] = []
        deadline = time.monotonic() + seconds
        while not replies or replies[-1].sequence != sequence:
            assert time.monotonic() < deadline, f"no reply to {sequence}, only {replies}"
            encoded = self.port.read_until(b"\0")
            if encoded.endswith(b"\0") and encoded != b"\0":
                replies.append(decode(encoded[:-1]))
        return replies

    def request(self, message: int, payload: bytes = b"", sequence: int | None = None) -> Reply:
        if sequence is None:
            self._sequence = (self._sequence + 1) % 0x8000
            sequence = self._sequence
        self.send(encode(message, sequence, payload))
        (reply,) = self.replies_until(sequence)
        return reply

    def description(self) -> dict[str, str]:
        text = b""
        total = 1
        while len(text) < total:
            reply = self.request(HELLO, struct.pack("<H", len(text)))
            total, offset = struct.unpack_from("<HH", reply.payload)
            assert offset == len(text)
            text += reply.payload[4:]
        return dict(line.split("=", 1) for line in text.decode().splitlines())

    def write(self, tensor: int, data: bytes) -> None:
        for offset in range(0, len(data), 235):
            piece = data[offset : offset + 235]
            reply = self.request(WRITE, struct.pack("<BI", tensor, offset) + piece)
            assert reply == Reply(WRITE | 0x80, self._sequence, b"")

    def read(self, tensor: int, size: int) -> bytes:
        data = b""
        while len(data) < size:
            count = min(240, size - len(data))
            data += self.request(READ, struct.pack("<BIH", tensor, len(data), count)).payload
        return data
