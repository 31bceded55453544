import zlib

import pytest
from fake_device import stuff, unstuff
from hypothesis import given
from hypothesis import strategies as st

from tools.link.frames import MAX_ENCODED, MAX_PAYLOAD, Frame, FrameDecoder, FrameError, decode, encode

FRAMES = st.builds(
    Frame,
    type=st.integers(0, 255),
    sequence=st.integers(0, 0xFFFF),
    payload=st.binary(max_size=MAX_PAYLOAD) | st.integers(0, MAX_PAYLOAD).map(bytes),
    version=st.integers(0, 255),
)


def is_subsequence(part: list[Frame], whole: list[Frame]) -> bool:
    rest = iter(whole)
    return all(frame in rest for frame in part)


@given(FRAMES)
def test_wire_layout_is_the_documented_one(frame: Frame) -> None:
    """Oracle: the layout of docs/protocol.md written out, zlib, and another COBS."""
    body = (
        bytes([frame.version, frame.type])
        + frame.sequence.to_bytes(2, "little")
        + len(frame.payload).to_bytes(2, "little")
        + frame.payload
    )
    raw = body + zlib.crc32(body).to_bytes(4, "little")
    encoded = encode(frame)
    assert encoded == stuff(raw) + b"\0"
    assert len(encoded) == len(raw) + 2 <= MAX_ENCODED + 1
    assert unstuff(encoded[:-1]) == raw
    assert decode(encoded[:-1]) == frame


def test_oversize_payload_is_refused() -> None:
    with pytest.raises(FrameError, match="241"):
        encode(Frame(1, 0, bytes(MAX_PAYLOAD + 1)))


@given(st.lists(FRAMES, max_size=5), st.data())
def test_stream_may_arrive_in_any_pieces(frames: list[Frame], data: st.DataObject) -> None:
    stream = b"".join(encode(frame) for frame in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    decoder = FrameDecoder()
    found: list[Frame] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += decoder.feed(stream[start:end])
    assert found == frames
    assert decoder.damaged == 0


@given(st.lists(FRAMES, min_size=1, max_size=4), st.data())
def test_damage_costs_only_the_frames_it_hits_and_never_invents_one(
    frames: list[Frame], data: st.DataObject
) -> None:
    encoded = [encode(frame) for frame in frames]
    stream = b"".join(encoded)
    starts = [sum(map(len, encoded[:index])) for index in range(len(frames))]
    position = data.draw(st.integers(0, len(stream) - 1))
    kind = data.draw(st.sampled_from(["flip", "drop", "insert", "double", "burst"]))
    end = position + 1
    if kind == "flip":
        damaged = bytes([stream[position] ^ data.draw(st.integers(1, 255))])
    elif kind == "drop":
        damaged = b""
    elif kind == "insert":
        damaged = data.draw(st.binary(min_size=1, max_size=300)) + stream[position:end]
    elif kind == "double":
        damaged = stream[position:end] * 2
    else:
        end = data.draw(st.integers(position + 1, len(stream)))
        damaged = data.draw(st.binary(max_size=end - position))
    decoder = FrameDecoder()
    found = decoder.feed(stream[:position] + damaged + stream[end:])

    def untouched(index: int) -> bool:
        # The delimiter before a frame and its own belong to it.
        return starts[index] + len(encoded[index]) <= position or starts[index] - 1 >= end

    assert is_subsequence([frame for index, frame in enumerate(frames) if untouched(index)], found)
    assert is_subsequence(found, frames)


@given(FRAMES, st.data())
def test_truncated_frame_is_dropped_and_the_next_one_arrives(frame: Frame, data: st.DataObject) -> None:
    encoded = encode(frame)
    cut = data.draw(st.integers(1, len(encoded) - 2))
    decoder = FrameDecoder()
    assert decoder.feed(encoded[:cut]) == []
    assert decoder.feed(b"\0" + encoded) == [frame]
    assert decoder.damaged == 1


@given(st.binary(max_size=2000))
def test_noise_is_no_frame(noise: bytes) -> None:
    frame = Frame(0x81, 7, b"hello")
    decoder = FrameDecoder()
    assert decoder.feed(noise) == []
    assert decoder.feed(b"\0" + encode(frame)) == [frame]


def test_endless_noise_without_delimiter_takes_no_memory() -> None:
    decoder = FrameDecoder()
    for _ in range(1000):
        decoder.feed(b"\x55" * 1000)
    assert len(decoder._partial) <= MAX_ENCODED + 1
    assert decoder.feed(b"\0" + encode(Frame(2, 3))) == [Frame(2, 3)]
    assert decoder.damaged == 1
