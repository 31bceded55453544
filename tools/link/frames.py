"""Frames of the wire protocol: header, CRC-32, COBS, and a decoder that finds the next frame after damage.

Layout and limits: docs/protocol.md, "Frame". COBS: Cheshire and Baker, IEEE/ACM Trans. Networking 7(2), 1999.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from cobs import cobs

PROTOCOL_VERSION = 1
MAX_PAYLOAD = 240
DELIMITER = b"\0"

_HEADER = struct.Struct("<BBHH")
_CRC = struct.Struct("<I")
_OVERHEAD = _HEADER.size + _CRC.size
MAX_ENCODED = MAX_PAYLOAD + _OVERHEAD + 1


class FrameError(ValueError):
    """These bytes are no frame: COBS, length or CRC is wrong."""


@dataclass(frozen=True)
class Frame:
    """One frame: `type` and `version` are u8, `sequence` is u16, `payload` at most 240 bytes."""

    type: int
    sequence: int
    payload: bytes = b""
    version: int = PROTOCOL_VERSION


def encode(frame: Frame) -> bytes:
    """Bytes of a frame on the wire, with its closing delimiter.

    Raises:
        FrameError: the payload is longer than `MAX_PAYLOAD`.
    """
    if len(frame.payload) > MAX_PAYLOAD:
        raise FrameError(f"a payload of {len(frame.payload)} bytes is over the limit of {MAX_PAYLOAD}")
    body = _HEADER.pack(frame.version, frame.type, frame.sequence, len(frame.payload)) + frame.payload
    return bytes(cobs.encode(body + _CRC.pack(zlib.crc32(body)))) + DELIMITER


def decode(encoded: bytes) -> Frame:
    """Frame of the bytes between two delimiters.

    Raises:
        FrameError: the bytes are no frame.
    """
    try:
        raw = bytes(cobs.decode(encoded))
    except cobs.DecodeError as error:
        raise FrameError(str(error)) from error
    if len(raw) < _OVERHEAD:
        raise FrameError(f"{len(raw)} bytes are too short for a frame")
    body = raw[: -_CRC.size]
    version, kind, sequence, length = _HEADER.unpack_from(body)
    if length > MAX_PAYLOAD or len(body) != _HEADER.size + length:
        raise FrameError(f"the length field says {length}, the frame holds {len(body) - _HEADER.size}")
    if _CRC.unpack_from(raw, len(body))[0] != zlib.crc32(body):
        raise FrameError("wrong CRC-32")
    return Frame(kind, sequence, body[_HEADER.size :], version)


class FrameDecoder:
    """Turns a stream of bytes into frames; a damaged frame is dropped, and the next delimiter starts anew.

    damaged: frames dropped so far.
    """

    def __init__(self) -> None:
        self.damaged = 0
        self._partial = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes as they arrive; return the frames that they complete."""
        *complete, rest = data.split(DELIMITER)
        frames = []
        for piece in complete:
            encoded = bytes(self._partial) + piece
            self._partial.clear()
            if not encoded:
                continue
            try:
                frames.append(decode(encoded))
            except FrameError:
                self.damaged += 1
        # What is too long already is damaged whatever follows: keep no more of it than proves that.
        self._partial += rest[: MAX_ENCODED + 1 - len(self._partial)]
        return frames

    def reset(self) -> None:
        """Forget a frame of which only a part has arrived."""
        self._partial.clear()
