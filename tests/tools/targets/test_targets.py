"""What cannot run here is played: the host build and Renode by scripts, USB ports by a list."""

import stat
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_device import write_least_image

from common.errors import ConfigError, LinkError, NoBoardError, ToolMissingError
from converter.board import load_board
from tools.config import TargetName
from tools.link.client import Link
from tools.targets import open_target, silicon
from tools.targets.process import last_words
from tools.targets.renode import SCRIPT, renode_command

BOARD = load_board("stm32f746g_disco")
TESTS = Path(__file__).resolve().parents[2]

HOST_PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
from fake_device import FakeDevice
with FakeDevice(input_bytes=4) as device:
    print(device.url, flush=True)
    sys.stdin.read()
"""
RENODE_PROGRAM = """
import os, re, select, socket, sys
sys.path.insert(0, {tests!r})
from fake_device import FakeDevice
assert "--disable-xwt" in sys.argv
port = int(re.search(r"uart_port=([0-9]+)", sys.argv[-1])[1])
with FakeDevice(input_bytes=4) as device, socket.create_server(("127.0.0.1", port)) as server:
    pty = os.open(device.url, os.O_RDWR | os.O_NOCTTY)
    while True:
        client, _ = server.accept()
        while True:
            ready, _, _ = select.select([client, pty], [], [])
            if pty in ready:
                client.sendall(os.read(pty, 4096))
            if client in ready:
                data = client.recv(4096)
                if not data:
                    break
                os.write(pty, data)
"""


def program(path: Path, source: str) -> Path:
    path.write_text(f"#!{sys.executable}\n" + source.format(tests=str(TESTS)))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def open_and_close(name: TargetName, image: Path) -> None:
    with open_target(name, BOARD, image):
        pass


def echo_for_ever(link: Link) -> None:
    while True:
        link.echo(b"still there?")


@pytest.fixture
def elf(tmp_path: Path) -> Path:
    return write_least_image(tmp_path / "firmware.elf")


def test_host_program_is_started_spoken_to_and_ended(tmp_path: Path) -> None:
    image = program(tmp_path / "firmware", HOST_PROGRAM)
    with open_target("host", BOARD, image) as target:
        assert (target.name, target.unit) == ("host", "nanoseconds")
        with target.link() as link:
            assert link.hello().board == "fake"
    with pytest.raises(NoBoardError):
        target.link()


def test_host_program_that_dies_is_told_with_its_last_words(tmp_path: Path) -> None:
    image = program(tmp_path / "firmware", "import sys; sys.exit('ERROR: AddressSanitizer: overflow')")
    with pytest.raises(
        LinkError, match=r"ended with code 1: ERROR: AddressSanitizer: overflow \(see .*log\)"
    ):
        open_and_close("host", image)


def test_host_program_that_dies_later_spoils_the_session(tmp_path: Path) -> None:
    source = HOST_PROGRAM.replace("sys.stdin.read()", "import time; time.sleep(0.3); sys.exit('error: late')")
    image = program(tmp_path / "firmware", source)
    with (
        pytest.raises(LinkError, match="error: late"),
        open_target("host", BOARD, image) as target,
        target.link(timeout=0.2) as link,
    ):
        echo_for_ever(link)


def test_host_program_that_prints_no_path_is_refused(tmp_path: Path) -> None:
    image = program(tmp_path / "firmware", "print('hello', flush=True); import sys; sys.stdin.read()")
    with pytest.raises(LinkError, match="did not print the path of its pty, but 'hello'"):
        open_and_close("host", image)


def test_absent_images_are_told(tmp_path: Path) -> None:
    for name in ("host", "virtual"):
        with pytest.raises(ConfigError, match=str(tmp_path / "absent")):
            open_and_close(name, tmp_path / "absent")


def test_renode_is_started_on_our_script_and_served_on_a_socket(
    tmp_path: Path, elf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "renode", RENODE_PROGRAM)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with open_target("renode", BOARD, elf) as target:
        assert target.unit == "instructions"
        assert target.url.startswith("socket://127.0.0.1:")
        with target.link() as link:
            assert link.hello().board == "fake"


def test_renode_command_quotes_paths() -> None:
    command = renode_command(Path("/opt/renode"), Path("/my runs/firmware.elf"), 4000, 4001)
    assert command[:5] == ["/opt/renode", "--disable-xwt", "--plain", "-P", "4001"]
    assert command[5:] == [
        "-e",
        rf"$bin=@/my\ runs/firmware.elf; $uart_port=4000; include @{SCRIPT}; start",
    ]


def test_missing_renode_says_how_to_install_it(elf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ToolMissingError, match=r"renode is not on PATH.*portable package"):
        open_and_close("renode", elf)


def test_renode_that_dies_is_told(tmp_path: Path, elf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "renode", "print('[ERROR] no such platform'); import sys; sys.exit(1)")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(LinkError, match="no such platform"):
        open_and_close("renode", elf)


def port(device: str, vid: int | None, pid: int | None, serial: str = "") -> SimpleNamespace:
    return SimpleNamespace(device=device, vid=vid, pid=pid, serial_number=serial)


class Ports(list):
    def __call__(self) -> "Ports":
        return self


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch) -> Ports:
    found = Ports()
    monkeypatch.setattr(silicon.list_ports, "comports", found)
    return found


def test_board_is_found_by_its_probe(ports: Ports, elf: Path) -> None:
    ports += [port("/dev/ttyS0", None, None), port("/dev/ttyACM3", 0x0483, 0x374B, "0667")]
    with open_target("board", BOARD, elf) as target:
        assert (target.url, target.unit, target.baud) == ("/dev/ttyACM3", "cycles", 115_200)
    with open_target("board", BOARD, elf, port="/dev/ttyUSB7") as target:
        assert target.url == "/dev/ttyUSB7"


def test_no_board_says_what_was_looked_for(ports: Ports, elf: Path) -> None:
    ports.append(port("/dev/ttyS0", None, None))
    with pytest.raises(NoBoardError, match=r"no STM32F746G-DISCO.*0483:374b \(ports found: /dev/ttyS0\)"):
        open_and_close("board", elf)


def test_several_boards_want_a_choice(ports: Ports, elf: Path) -> None:
    ports += [port("/dev/ttyACM0", 0x0483, 0x374B, "0667"), port("/dev/ttyACM1", 0x0483, 0x374B, "0668")]
    with pytest.raises(NoBoardError, match=r"choose one with --port: /dev/ttyACM0 \(serial number 0667\)"):
        open_and_close("board", elf)


def test_last_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("starting\nError: bad\nbye\n\n")
    assert last_words(log) == "Error: bad"
    log.write_text("starting\nbye\n\n")
    assert last_words(log) == "bye"
    log.write_text("")
    assert last_words(log) == "it said nothing"
