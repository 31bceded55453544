"""The board's process serves its UART to clients that come and go, and ends without a trace."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import serial
from virtual_firmware import BOARD, assemble, echo_image

from common.errors import ConfigError, LinkError
from tools.virtual_board.faults import FaultKind
from tools.virtual_board.server import VirtualBoardServer

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def server() -> Iterator[VirtualBoardServer]:
    with VirtualBoardServer(BOARD, echo_image()) as running:
        yield running


@contextmanager
def client(port: str | None) -> Iterator[serial.SerialBase]:
    assert port is not None
    connection = serial.serial_for_url(port, baudrate=115_200, timeout=20)
    try:
        yield connection
    finally:
        connection.close()


def echo(connection: serial.SerialBase, data: bytes) -> bytes:
    connection.write(data)
    answer: bytes = connection.read(len(data))
    return answer


def test_clients_on_the_port_come_and_go(server: VirtualBoardServer) -> None:
    for text in (b"first", b"second"):
        with client(server.url) as connection:
            assert echo(connection, text) == text


def test_the_pty_is_a_serial_port(server: VirtualBoardServer) -> None:
    data = bytes(range(65)) * 20  # without the letters that echo.c knows
    with client(server.pty) as connection:
        assert echo(connection, data) == data


def test_answers_go_to_whoever_spoke_last(server: VirtualBoardServer) -> None:
    with client(server.url) as port, client(server.pty) as pty:
        assert echo(pty, b"a") == b"a"
        assert echo(port, b"b") == b"b"
        assert echo(pty, b"c") == b"c"
        port.timeout = pty.timeout = 0
        assert port.read(1) == pty.read(1) == b""


def test_a_new_client_replaces_one_that_hangs(server: VirtualBoardServer) -> None:
    with client(server.url) as stale, client(server.url) as fresh:
        assert echo(fresh, b"x") == b"x"
        with pytest.raises(serial.SerialException):
            stale.read(1)


def test_an_idle_board_uses_no_processor_time(server: VirtualBoardServer) -> None:
    statistics = Path(f"/proc/{server._process.pid}/stat")
    if not statistics.exists():
        pytest.skip("needs /proc")

    def ticks() -> int:
        fields = statistics.read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    with client(server.url) as connection:
        echo(connection, b"x")
    before = ticks()
    time.sleep(0.3)
    assert ticks() - before <= 1


def test_a_snapshot_tells_what_ran(server: VirtualBoardServer) -> None:
    server.reset_counters()
    with client(server.url) as connection:
        echo(connection, b"xyz")
    snapshot = server.snapshot()
    assert snapshot.profile["put"] > 0
    assert sum(snapshot.profile.values()) < snapshot.instructions
    assert snapshot.cycles_estimate > 0
    assert snapshot.fault is None
    assert snapshot.warnings == ()


def test_boards_run_beside_each_other_and_faults_come_back() -> None:
    with VirtualBoardServer(BOARD, echo_image()) as first, VirtualBoardServer(BOARD, echo_image()) as second:
        with client(first.url) as one, client(second.url) as two:
            assert echo(one, b"F") == b"F"
            assert echo(two, b"G") == b"G"
        fault = first.snapshot().fault
        assert fault is not None
        assert fault.kind is FaultKind.WRITE
        assert fault.address == 0x3000_0000
        assert "(test+0x" in fault.function
        assert second.snapshot().fault is None


def test_a_board_that_hangs_still_answers_and_can_be_reset() -> None:
    with VirtualBoardServer(BOARD, echo_image(), deadline=30_000_000) as server:
        with client(server.url) as connection:
            assert echo(connection, b"L") == b"L"
            while not server.snapshot().halted:
                pass
            server.reset()
            assert echo(connection, b"x") == b"x"
        fault = server.snapshot().fault
        assert fault is not None
        assert fault.kind is FaultKind.DEADLINE


def test_a_wrong_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "firmware.elf"
    path.write_bytes(b"\x7fELF not really")
    with pytest.raises(ConfigError, match=r"firmware\.elf: "), VirtualBoardServer(BOARD, path):
        pass


def test_a_process_that_dies_is_noticed() -> None:
    with VirtualBoardServer(BOARD, echo_image()) as server:
        os.kill(server._process.pid, signal.SIGKILL)
        with pytest.raises(LinkError, match="the virtual board died"):
            server.snapshot()


def test_the_process_ends_with_its_parent() -> None:
    server = VirtualBoardServer(BOARD, echo_image())
    with server:
        process = server._process
    assert process.returncode == 0


def _by_hand(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tools.virtual_board", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_ctrl_c_ends_a_board_by_hand(tmp_path: Path) -> None:
    link = tmp_path / "board"
    process = _by_hand(str(echo_image()), "--pty", str(link))
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    with client(url) as connection:
        assert echo(connection, b"F") == b"F"
    with client(str(link)) as connection:  # the fault handler of start.S halts: nothing comes back
        connection.write(b"x")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "write outside memory" in errors
    assert not link.is_symlink()


@pytest.mark.parametrize("arguments", [["missing.elf"], ["missing.elf", "--board", "arduino"]])
def test_a_wrong_argument_is_one_line(arguments: list[str]) -> None:
    process = _by_hand(*arguments)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 2
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1


def test_what_firmware_says_before_a_client_comes_is_kept() -> None:
    greet = """
  ldr r0, =0x40023800
  movs r1, #3
  str r1, [r0, #0x30]
  movs r1, #16
  str r1, [r0, #0x44]
  ldr r0, =0x40020000
  ldr r1, =0xA8080000
  str r1, [r0]
  movs r1, #0x70
  str r1, [r0, #0x24]
  ldr r0, =0x40011000
  movs r1, #139                  @ 16 MHz / 115200
  str r1, [r0, #0x0C]
  movs r1, #0x0D
  str r1, [r0]
  movs r1, #'m'
  str r1, [r0, #0x28]
1: ldr r1, [r0, #0x1C]
  b 1b
"""
    with VirtualBoardServer(BOARD, assemble(greet)) as server:
        place = urlsplit(server.url)
        # pyserial throws away what has come by the time that it has opened the port
        with socket.create_connection((place.hostname, place.port), timeout=20) as connection:
            assert connection.recv(1) == b"m"
