"""The host image: the harness behind a pty, with sanitizers, spoken to with `cobs` and zlib."""

from __future__ import annotations

import signal
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from protocol_oracle import ECHO, ERROR, FAULT, HELLO, MEMORY, PROFILE, READ, RESET, RUN, WRITE, Wire, encode
from serial import Serial

IMAGE_BYTES, BIAS_BYTES, OUTPUT_BYTES = 600, 4, 300
INPUT_INCOMPLETE, NO_RESULT, BAD_VERSION = 5, 6, 9


@contextmanager
def running(host_build: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [str(host_build / "firmware")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def path(host_build: Path) -> Iterator[str]:
    """Path of the pty of a running image."""
    with running(host_build) as (process, path):
        yield path
        assert process.poll() is None, process.communicate()[1]


@pytest.fixture(scope="module")
def wire(path: str) -> Iterator[Wire]:
    with Serial(path, timeout=1) as port:
        yield Wire(port)


def fake_model(image: NDArray[np.uint8], bias: NDArray[np.uint8]) -> bytes:
    folded = np.bitwise_xor(image[0::2], image[1::2])
    return np.add(folded, np.resize(bias, OUTPUT_BYTES)).astype(np.uint8).tobytes()


def test_description_names_all_that_the_protocol_asks_for(wire: Wire) -> None:
    description = wire.description()
    keys = (
        "protocol board chip engine model model_sha256 git compiler flags clock_hz counter arena_bytes "
        "layers ops input0 input1 output0"
    )
    assert set(keys.split()) == set(description)
    assert next(iter(description)) == "protocol"
    assert description["protocol"] == "1"
    assert description["board"] == "host"
    assert description["counter"] == "nanoseconds"
    assert description["clock_hz"] == "1000000000"
    assert all(description.values())


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), profiled=st.booleans())
def test_inference_from_inputs_to_outputs(wire: Wire, seed: int, profiled: bool) -> None:
    random = np.random.default_rng(seed)
    image = random.integers(0, 0x70, IMAGE_BYTES, dtype=np.uint8)
    bias = random.integers(0, 256, BIAS_BYTES, dtype=np.uint8)
    wire.write(0, image.tobytes())
    wire.write(1, bias.tobytes())
    reply = wire.request(RUN, bytes([profiled]))
    assert reply.type == RUN | 0x80
    nanoseconds, _ = struct.unpack("<QI", reply.payload)
    assert nanoseconds > 0
    assert wire.read(0, OUTPUT_BYTES) == fake_model(image, bias)
    if profiled:
        total, first, *layers = struct.unpack("<HH3I", wire.request(PROFILE, b"\0\0").payload)
        assert (total, first) == (3, 0)
        assert 0 < sum(layers) <= nanoseconds


def test_version_of_the_future_is_refused(wire: Wire) -> None:
    wire.send(encode(HELLO, 40000, b"\0\0", version=2))
    (reply,) = wire.replies_until(40000)
    assert reply.error == (BAD_VERSION, 2)


def test_the_host_knows_no_faults(wire: Wire) -> None:
    assert wire.request(FAULT).payload == b""
    assert len(wire.request(MEMORY).payload) == 32


frames = st.builds(
    encode,
    message=st.sampled_from([HELLO, WRITE, RUN, READ, MEMORY, PROFILE, FAULT, ECHO]) | st.integers(10, 255),
    sequence=st.integers(0, 0x7FFF),
    payload=st.binary(max_size=240),
)
noise = st.binary(max_size=600) | st.tuples(frames, st.integers(0, 255)).map(lambda cut: cut[0][: cut[1]])


@settings(max_examples=200, deadline=None)
@given(pieces=st.lists(noise | frames, max_size=6), sequence=st.integers(0x8000, 0xFFFF))
def test_recovers_from_anything(wire: Wire, pieces: list[bytes], sequence: int) -> None:
    wire.send(b"".join(pieces) + b"\0" + encode(ECHO, sequence, b"still there"))
    reply = wire.replies_until(sequence)[-1]
    assert (reply.type, reply.payload) == (ECHO | 0x80, b"still there")


@settings(max_examples=200, deadline=None)
@given(message=st.integers(0, 255).filter(lambda message: message != RESET), payload=st.binary(max_size=240))
def test_every_sound_request_gets_one_reply(wire: Wire, message: int, payload: bytes) -> None:
    reply = wire.request(message, payload)
    assert reply.type in (message | 0x80, ERROR)
    if reply.type == ERROR:
        code, detail = reply.error
        assert 1 <= code <= 9
        if code == 1:
            assert detail == message
        if code == 2:
            assert detail == len(payload)


def test_damage_is_counted(wire: Wire) -> None:
    def dropped() -> int:
        return int(struct.unpack("<8I", wire.request(MEMORY).payload)[6])

    before = dropped()
    wire.send(encode(ECHO, 1)[:-3] + b"\0" + b"\0\0" + b"\x01" * 1000 + b"\0")
    assert dropped() == before + 2


def test_reset_forgets_everything_but_the_line(host_build: Path) -> None:
    with running(host_build) as (process, path), Serial(path, timeout=1) as port:
        wire = Wire(port)
        wire.write(0, bytes(IMAGE_BYTES))
        wire.write(1, bytes(BIAS_BYTES))
        assert wire.request(RUN, b"\0").type == RUN | 0x80
        wire.send(b"\x05\x05\0")
        assert wire.request(RESET).type == RESET | 0x80
        assert wire.request(READ, struct.pack("<BIH", 0, 0, 1)).error == (NO_RESULT, 0)
        assert wire.request(RUN, b"\0").error == (INPUT_INCOMPLETE, 0)
        assert struct.unpack("<8I", wire.request(MEMORY).payload)[6] == 0
        assert process.poll() is None


def test_hosts_come_and_go(host_build: Path) -> None:
    with running(host_build) as (_, path):
        for payload in (b"first", b"second"):
            with Serial(path, timeout=1) as port:
                assert Wire(port).request(ECHO, payload).payload == payload


def test_ends_with_its_standard_input(host_build: Path) -> None:
    with running(host_build) as (process, path):
        assert Path(path).is_char_device()
        stdout, stderr = process.communicate(timeout=10)
        assert (process.returncode, stdout, stderr) == (0, "", "")


def test_ends_on_sigterm(host_build: Path) -> None:
    with running(host_build) as (process, _):
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0


def test_cpp_unit_tests(host_build: Path) -> None:
    done = subprocess.run(
        ["ctest", "--test-dir", str(host_build), "--output-on-failure"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "0 tests failed out of 2" in done.stdout
