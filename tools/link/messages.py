"""Requests, replies and errors of the wire protocol (docs/protocol.md, "Messages" and "Errors")."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from tools.link.frames import MAX_PAYLOAD

REPLY_BIT = 0x80
ERROR_TYPE = 0xFF
# The largest pieces of a tensor that one WRITE carries and one READ brings.
MAX_WRITE = MAX_PAYLOAD - 5
MAX_READ = MAX_PAYLOAD


class MessageType(IntEnum):
    """Types of requests; a reply has `REPLY_BIT` set."""

    HELLO = 0x01
    WRITE = 0x02
    RUN = 0x03
    READ = 0x04
    MEMORY = 0x05
    PROFILE = 0x06
    FAULT = 0x07
    RESET = 0x08
    ECHO = 0x09


class ErrorCode(IntEnum):
    """Codes of error replies."""

    UNKNOWN_TYPE = 1
    BAD_LENGTH = 2
    BAD_TENSOR = 3
    BAD_RANGE = 4
    INPUT_INCOMPLETE = 5
    NO_RESULT = 6
    ENGINE_FAILED = 7
    FAULT = 8
    BAD_VERSION = 9


class RunFlags(IntFlag):
    """Flags of RUN."""

    NONE = 0
    PROFILE = 1
    TIMING_ONLY = 2


class MessageError(ValueError):
    """A reply's payload is not what the protocol says."""


def _unpack(layout: struct.Struct, payload: bytes, name: str) -> tuple[int, ...]:
    if len(payload) != layout.size:
        raise MessageError(f"{name} reply of {len(payload)} bytes, expected {layout.size}")
    return layout.unpack(payload)


_HELLO_REQUEST = struct.Struct("<H")
_HELLO_REPLY = struct.Struct("<HH")
_WRITE_REQUEST = struct.Struct("<BI")
_RUN_REPLY = struct.Struct("<QI")
_READ_REQUEST = struct.Struct("<BIH")
_PROFILE_REQUEST = struct.Struct("<H")
_PROFILE_REPLY = struct.Struct("<HH")
_MEMORY_REPLY = struct.Struct("<8I")
_ERROR = struct.Struct("<BI")
_FAULT = struct.Struct("<14I")


def hello_request(offset: int) -> bytes:
    """Payload of HELLO: the byte of the self-description to start from."""
    return _HELLO_REQUEST.pack(offset)


def write_request(tensor: int, offset: int, data: bytes | memoryview) -> bytes:
    """Payload of WRITE: at most `MAX_WRITE` bytes for an input tensor."""
    return _WRITE_REQUEST.pack(tensor, offset) + data


def run_request(flags: RunFlags) -> bytes:
    """Payload of RUN."""
    return bytes([flags])


def read_request(tensor: int, offset: int, count: int) -> bytes:
    """Payload of READ: at most `MAX_READ` bytes of an output tensor."""
    return _READ_REQUEST.pack(tensor, offset, count)


def profile_request(first: int) -> bytes:
    """Payload of PROFILE: the first layer wanted."""
    return _PROFILE_REQUEST.pack(first)


@dataclass(frozen=True)
class Piece:
    """A piece of something that is longer than a frame: `total` items, these from `offset` on."""

    total: int
    offset: int
    data: bytes


def _piece(layout: struct.Struct, payload: bytes, name: str, item: int) -> Piece:
    data = payload[layout.size :]
    if len(payload) < layout.size or len(data) % item:
        raise MessageError(f"{name} reply of {len(payload)} bytes")
    total, offset = layout.unpack_from(payload)
    if offset + len(data) // item > total or (not data and offset < total):
        raise MessageError(f"{name} reply with {len(data) // item} items from {offset} of {total}")
    return Piece(total, offset, data)


def hello_reply(payload: bytes) -> Piece:
    """A piece of the self-description's text, offsets in bytes."""
    return _piece(_HELLO_REPLY, payload, "HELLO", 1)


def profile_reply(payload: bytes) -> tuple[Piece, tuple[int, ...]]:
    """Counts of some layers, offsets in layers."""
    piece = _piece(_PROFILE_REPLY, payload, "PROFILE", 4)
    return piece, struct.unpack(f"<{len(piece.data) // 4}I", piece.data)


def run_reply(payload: bytes) -> tuple[int, int]:
    """What the image's counter counted around the inference, and the bytes of stack used since power-up."""
    count, stack_used = _unpack(_RUN_REPLY, payload, "RUN")
    return count, stack_used


@dataclass(frozen=True)
class MemoryReport:
    """Reply to MEMORY: what the image knows of its own memory, in bytes, and two counters.

    bss is without arena and stack; faults counts since power-up.
    """

    arena: int
    data: int
    bss: int
    stack_reserved: int
    stack_used: int
    flash_used: int
    frames_dropped: int
    faults: int

    @classmethod
    def parse(cls, payload: bytes) -> MemoryReport:
        """From the reply's payload.

        Raises:
            MessageError: wrong length.
        """
        return cls(*_unpack(_MEMORY_REPLY, payload, "MEMORY"))


_EXCEPTIONS = {2: "NMI", 3: "HardFault", 4: "MemManage", 5: "BusFault", 6: "UsageFault"}
# Armv7-M Architecture Reference Manual (DDI 0403E), B3.2.15 and B3.2.16.
_CFSR_BITS = {
    0: "instruction access violation",
    1: "data access violation",
    3: "MemManage while unstacking",
    4: "MemManage while stacking",
    5: "MemManage while saving FPU state",
    8: "instruction bus error",
    9: "precise data bus error",
    10: "imprecise data bus error",
    11: "bus error while unstacking",
    12: "bus error while stacking",
    13: "bus error while saving FPU state",
    16: "undefined instruction",
    17: "invalid state",
    18: "invalid PC load",
    19: "no coprocessor",
    24: "unaligned access",
    25: "division by zero",
}
_MMFAR_VALID, _BFAR_VALID = 1 << 7, 1 << 15
_HFSR_BITS = {1: "vector table read", 31: "debug event"}


@dataclass(frozen=True)
class FaultRecord:
    """Registers of the chip at its last fault, each u32."""

    exception: int
    pc: int
    lr: int
    xpsr: int
    sp: int
    r0: int
    r1: int
    r2: int
    r3: int
    r12: int
    cfsr: int
    hfsr: int
    mmfar: int
    bfar: int

    @classmethod
    def parse(cls, payload: bytes) -> FaultRecord:
        """From the record's bytes.

        Raises:
            MessageError: wrong length.
        """
        return cls(*_unpack(_FAULT, payload, "FAULT"))

    @property
    def causes(self) -> tuple[str, ...]:
        """What CFSR and HFSR say, in words."""
        registers = ((self.cfsr, _CFSR_BITS), (self.hfsr, _HFSR_BITS))
        return tuple(text for value, bits in registers for bit, text in bits.items() if value >> bit & 1)

    @property
    def address(self) -> int | None:
        """The data address that faulted, where the chip knows it."""
        if self.cfsr & _MMFAR_VALID:
            return self.mmfar
        return self.bfar if self.cfsr & _BFAR_VALID else None

    def __str__(self) -> str:
        name = _EXCEPTIONS.get(self.exception, f"exception {self.exception}")
        causes = f" ({', '.join(self.causes)})" if self.causes else ""
        address = f", address 0x{self.address:08x}" if self.address is not None else ""
        return f"{name}{causes} at PC 0x{self.pc:08x}, LR 0x{self.lr:08x}, SP 0x{self.sp:08x}{address}"


@dataclass(frozen=True)
class ErrorReply:
    """An error reply; `fault` comes with code FAULT."""

    code: int
    detail: int
    fault: FaultRecord | None = None

    @classmethod
    def parse(cls, payload: bytes) -> ErrorReply:
        """From the payload.

        Raises:
            MessageError: wrong length.
        """
        if len(payload) < _ERROR.size:
            raise MessageError(f"error reply of {len(payload)} bytes")
        code, detail = _ERROR.unpack_from(payload)
        record = payload[_ERROR.size :]
        return cls(code, detail, FaultRecord.parse(record) if record else None)

    def __str__(self) -> str:
        name = (
            ErrorCode(self.code).name if self.code in ErrorCode.__members__.values() else f"error {self.code}"
        )
        return f"{name} (detail {self.detail})"
