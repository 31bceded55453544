"""Faults on the virtual board: reported to the request that caused them, kept over the reset, counted."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from firmware_build import BOARD
from protocol_oracle import ECHO, ERROR, FAULT, MEMORY, READ, RUN, Wire
from serial import serial_for_url

from converter.board import load_board
from tools.virtual_board.server import VirtualBoardServer

FAULT_CODE, NO_RESULT = 8, 6
HARD_FAULT, MEM_MANAGE, BUS_FAULT, USAGE_FAULT = 3, 4, 5, 6


@dataclass(frozen=True)
class Record:
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


@pytest.fixture(scope="module")
def wire(chip_build: Path) -> Iterator[Wire]:
    with (
        VirtualBoardServer(load_board(BOARD), chip_build / "firmware.elf") as server,
        serial_for_url(server.url, timeout=1) as port,
    ):
        yield Wire(port)


def fault_count(wire: Wire) -> int:
    return int(struct.unpack("<8I", wire.request(MEMORY).payload)[7])


def provoke(wire: Wire, first_byte: int) -> Record:
    """Make the fake model fault; checks all that holds for every fault, and returns the record."""
    before = fault_count(wire)
    wire.write(0, bytes([first_byte]) + bytes(599))
    wire.write(1, bytes(4))
    reply = wire.request(RUN, b"\0")
    assert reply.type == ERROR
    assert reply.error == (FAULT_CODE, 0)
    assert fault_count(wire) == before + 1
    assert wire.request(FAULT).payload == reply.payload[5:]
    assert wire.request(READ, struct.pack("<BIH", 0, 0, 1)).error == (NO_RESULT, 0)
    return Record(*struct.unpack("<14I", reply.payload[5:]))


def in_flash(pc: int) -> bool:
    flash = load_board(BOARD).flash
    return flash.origin <= pc < flash.end


def test_division_by_zero(wire: Wire) -> None:
    record = provoke(wire, 0x71)
    assert record.exception == USAGE_FAULT
    assert record.cfsr == 1 << 25
    assert in_flash(record.pc)


def test_stack_overflow(wire: Wire) -> None:
    record = provoke(wire, 0x72)
    assert record.exception == HARD_FAULT
    assert record.hfsr == 1 << 30, "forced"
    assert record.cfsr & (1 << 4 | 1 << 12), "stacking failed"
    assert record.sp < load_board(BOARD).ram[0].origin


def test_null_pointer(wire: Wire) -> None:
    record = provoke(wire, 0x73)
    assert record.exception == MEM_MANAGE
    assert record.cfsr == 1 << 1 | 1 << 7
    assert record.mmfar == 0
    assert in_flash(record.pc)


def test_read_past_the_end_of_ram(wire: Wire) -> None:
    record = provoke(wire, 0x74)
    assert record.exception == BUS_FAULT
    assert record.cfsr == 1 << 9 | 1 << 15
    assert record.bfar == load_board(BOARD).ram[-1].end
    assert in_flash(record.pc)
    assert load_board(BOARD).ram[0].origin < record.sp


def test_undefined_instruction(wire: Wire) -> None:
    record = provoke(wire, 0x75)
    assert record.exception == USAGE_FAULT
    assert record.cfsr == 1 << 16
    assert in_flash(record.pc)


def test_the_image_still_works(wire: Wire) -> None:
    assert wire.request(ECHO, b"fine").payload == b"fine"
    wire.write(0, bytes(600))
    wire.write(1, bytes(range(4)))
    assert wire.request(RUN, b"\0").type == RUN | 0x80
    assert wire.read(0, 300) == bytes(range(4)) * 75
