"""Whatever arrives, the image answers with the documented error or not at all, and goes on working."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest

from board_tests.artefacts import Model
from tools.link import messages
from tools.link.client import DeviceError, Link
from tools.link.frames import DELIMITER, MAX_PAYLOAD, PROTOCOL_VERSION, Frame, encode
from tools.link.messages import ERROR_TYPE, ErrorCode, ErrorReply, MessageType, RunFlags


@pytest.fixture(autouse=True)
def _still_works(link: Link, model: Model) -> Iterator[None]:
    """After each test the model answers as it should."""
    yield
    result = link.run([model.inputs[0]])
    np.testing.assert_array_equal(result.outputs[0].ravel(), model.expected[0].ravel())


def refused(link: Link, kind: int, payload: bytes) -> tuple[int, int]:
    """Code and detail of the error that answers a request."""
    with pytest.raises(DeviceError) as caught:
        link.request(kind, payload)
    return caught.value.reply.code, caught.value.reply.detail


def test_random_bytes_are_ignored(link: Link) -> None:
    chance = random.Random(1)
    before = link.memory().frames_dropped
    bursts = [chance.randbytes(chance.randrange(1, 600)).replace(DELIMITER, b"\1") for _ in range(20)]
    for burst in bursts:
        link.send_raw(burst)
    assert link.memory().frames_dropped == before + len(bursts)


def test_damaged_frames_are_dropped_and_counted(link: Link) -> None:
    chance = random.Random(2)
    before = link.memory().frames_dropped
    whole = encode(Frame(MessageType.ECHO, 1, chance.randbytes(100)))[:-1]
    for position in range(0, len(whole), 5):
        damaged = bytearray(whole)
        damaged[position] ^= 0x80
        link.send_raw(bytes(damaged).replace(DELIMITER, b"\1"))
        link.send_raw(whole[:position] + b"\1")
    assert link.memory().frames_dropped == before + 2 * len(range(0, len(whole), 5))


@pytest.mark.parametrize("kind", [0x00, 0x0A, 0x33, 0x7F])
def test_unknown_types_are_named(link: Link, kind: int) -> None:
    assert refused(link, kind, b"") == (ErrorCode.UNKNOWN_TYPE, kind)


@pytest.mark.parametrize(
    ("kind", "right"),
    [
        (MessageType.HELLO, 2),
        (MessageType.RUN, 1),
        (MessageType.READ, 7),
        (MessageType.MEMORY, 0),
        (MessageType.PROFILE, 2),
        (MessageType.FAULT, 0),
        (MessageType.RESET, 0),
    ],
)
def test_wrong_lengths_are_named(link: Link, kind: MessageType, right: int) -> None:
    for length in {right - 1, right + 1, MAX_PAYLOAD} - {-1}:
        assert refused(link, kind, bytes(length)) == (ErrorCode.BAD_LENGTH, length)


@pytest.mark.parametrize("length", range(5))
def test_write_without_its_header_is_refused(link: Link, length: int) -> None:
    assert refused(link, MessageType.WRITE, bytes(length)) == (ErrorCode.BAD_LENGTH, length)


def test_tensors_that_do_not_exist_are_named(link: Link, model: Model) -> None:
    inputs = len(link.hello().inputs)
    for index in (inputs, 255):
        request = messages.write_request(index, 0, b"x")
        assert refused(link, MessageType.WRITE, request) == (ErrorCode.BAD_TENSOR, index)
    link.run([model.inputs[0]])
    for index in (len(link.hello().outputs), 255):
        request = messages.read_request(index, 0, 1)
        assert refused(link, MessageType.READ, request) == (ErrorCode.BAD_TENSOR, index)


def test_writing_stays_inside_what_was_written_and_the_tensor(link: Link, model: Model) -> None:
    size = model.inputs[0].nbytes
    link.run([model.inputs[0]])
    link.request(MessageType.WRITE, messages.write_request(0, 0, b"ab"))
    link.request(MessageType.WRITE, messages.write_request(0, 1, b"b"))
    for offset in (3, size, size + 1, 0x7FFFFFFF, 0xFFFFFFFF):
        request = messages.write_request(0, offset, b"x")
        assert refused(link, MessageType.WRITE, request) == (ErrorCode.BAD_RANGE, offset)
    if size < messages.MAX_WRITE:
        request = messages.write_request(0, 0, bytes(size + 1))
        assert refused(link, MessageType.WRITE, request) == (ErrorCode.BAD_RANGE, 0)


def test_reading_stays_inside_the_tensor(link: Link, model: Model) -> None:
    link.run([model.inputs[0]])
    size = link.hello().outputs[0].nbytes
    for offset, count in ((0, size + 1), (size, 1), (size + 1, 0), (0xFFFFFFFF, 1), (0, 0xFFFF), (1, size)):
        request = messages.read_request(0, offset, count)
        assert refused(link, MessageType.READ, request) == (ErrorCode.BAD_RANGE, offset)


def test_run_wants_whole_inputs_and_reading_wants_a_run(link: Link, model: Model) -> None:
    link.run([model.inputs[0]])
    link.request(MessageType.WRITE, messages.write_request(0, 0, b"x"))
    assert refused(link, MessageType.READ, messages.read_request(0, 0, 1)) == (ErrorCode.NO_RESULT, 0)
    code, detail = refused(link, MessageType.RUN, messages.run_request(RunFlags.NONE))
    assert (code, detail) == (ErrorCode.INPUT_INCOMPLETE, 0)
    link.run_again()


def test_text_and_layers_beyond_the_end_are_refused(link: Link) -> None:
    assert refused(link, MessageType.HELLO, b"\xff\xff") == (ErrorCode.BAD_RANGE, 0xFFFF)
    assert refused(link, MessageType.PROFILE, b"\xff\xff") == (ErrorCode.BAD_RANGE, 0xFFFF)


@pytest.mark.parametrize("version", [0, PROTOCOL_VERSION + 1, 255])
def test_other_versions_are_named(link: Link, version: int) -> None:
    reply = link.exchange(Frame(MessageType.ECHO, 0x4321, b"hello", version))
    assert reply is not None
    assert (reply.type, reply.sequence, reply.version) == (ERROR_TYPE, 0x4321, PROTOCOL_VERSION)
    assert ErrorReply.parse(reply.payload) == ErrorReply(ErrorCode.BAD_VERSION, version)


def test_repeated_run_is_answered_without_running_again(link: Link, model: Model) -> None:
    link.run([model.inputs[0]])
    request = Frame(MessageType.RUN, 0x1234, messages.run_request(RunFlags.TIMING_ONLY))
    first, second = link.exchange(request), link.exchange(request)
    assert first is not None
    assert first == second
    refusal = link.exchange(Frame(MessageType.RUN, 0x1235, messages.run_request(RunFlags.NONE)))
    assert refusal is not None
    assert ErrorReply.parse(refusal.payload).code == ErrorCode.INPUT_INCOMPLETE


@pytest.mark.parametrize("length", [0, 1, 239, MAX_PAYLOAD])
def test_echo_of_every_length(link: Link, length: int) -> None:
    for data in (bytes(length), b"\xff" * length, random.Random(length).randbytes(length)):
        assert link.echo(data) == data


def test_reset_brings_it_back(link: Link, model: Model) -> None:
    link.run([model.inputs[0]])
    link.reset()
    assert refused(link, MessageType.READ, messages.read_request(0, 0, 1)) == (ErrorCode.NO_RESULT, 0)
    assert link.hello().model_sha256 == model.graph.sha256
