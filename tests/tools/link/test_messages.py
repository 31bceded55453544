import struct

import pytest
from fake_device import FAULT_RECORD
from hypothesis import given
from hypothesis import strategies as st

from common.errors import LinkError
from tools.link import messages
from tools.link.description import Description, TensorSpec
from tools.link.messages import ErrorCode, ErrorReply, FaultRecord, MemoryReport, MessageError, RunFlags

TEXT = """protocol=1
board=b
chip=c
engine=aot
model=m
model_sha256=ff
git=g
compiler=gcc 12=2
flags=-O3 -DX=1
clock_hz=216000000
counter=cycles
arena_bytes=10
layers=2
ops=CONV_2D
input0=int8:1x28x28x1:0.00392156886:-128
input1=float32:4:0:0
output0=int8:1x10:0.5:3
"""


def test_requests_are_laid_out_as_documented() -> None:
    assert messages.hello_request(0x1234) == b"\x34\x12"
    assert messages.write_request(1, 0x01020304, b"ab") == b"\x01\x04\x03\x02\x01ab"
    assert messages.run_request(RunFlags.PROFILE | RunFlags.TIMING_ONLY) == b"\x03"
    assert messages.read_request(2, 5, 240) == b"\x02\x05\0\0\0\xf0\0"
    assert messages.profile_request(3) == b"\x03\0"


@given(st.binary(max_size=70))
def test_replies_of_any_bytes_parse_or_say_so(payload: bytes) -> None:
    parsers = (
        messages.hello_reply,
        messages.profile_reply,
        messages.run_reply,
        MemoryReport.parse,
        FaultRecord.parse,
        ErrorReply.parse,
    )
    for parser in parsers:
        try:
            result = parser(payload)
        except MessageError:
            continue
        assert result is not None


def test_pieces_that_lead_nowhere_are_refused() -> None:
    with pytest.raises(MessageError, match="0 items from 0 of 5"):
        messages.hello_reply(struct.pack("<HH", 5, 0))
    with pytest.raises(MessageError, match="2 items from 4 of 5"):
        messages.profile_reply(struct.pack("<HHII", 5, 4, 1, 1))


def test_fault_record_reads_as_a_sentence() -> None:
    record = FaultRecord.parse(FAULT_RECORD)
    assert str(record) == (
        "HardFault (data access violation) at PC 0x08001234, LR 0x080011f1, SP 0x20000fe0, address 0x20050000"
    )
    assert record.address == 0x20050000


def test_error_reply_carries_the_fault() -> None:
    reply = ErrorReply.parse(struct.pack("<BI", 8, 0) + FAULT_RECORD)
    assert reply.code == ErrorCode.FAULT
    assert reply.fault == FaultRecord.parse(FAULT_RECORD)
    assert str(ErrorReply(4, 99)) == "BAD_RANGE (detail 99)"
    assert str(ErrorReply(77, 1)) == "error 77 (detail 1)"


def test_description_is_typed() -> None:
    description = Description.parse(TEXT)
    assert description.flags == "-O3 -DX=1"
    assert description.clock_hz == 216_000_000
    first, second = description.inputs
    assert first.shape == (1, 28, 28, 1)
    assert first.nbytes == 784
    assert (first.scale, first.zero_point) == (0.00392156886, -128)
    assert second.dtype == "float32"
    assert second.nbytes == 16


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("git=g\n", "", "lacks 'git'"),
        ("clock_hz=216000000", "clock_hz=fast", "damaged.*fast"),
        ("counter=cycles", "counter=apples", "apples"),
        ("int8:1x10:0.5:3", "int8:1x10", "damaged"),
        ("int8:1x10:0.5:3", "int8:1x0:0.5:3", "1x0"),
        ("int8:1x10:0.5:3", "object:1x10:0.5:3", "object"),
        ("input1", "input2", "lacks 'input1'"),
    ],
)
def test_damaged_description_names_what_is_wrong(old: str, new: str, message: str) -> None:
    with pytest.raises(LinkError, match=message):
        Description.parse(TEXT.replace(old, new))


@given(st.text(max_size=60))
def test_tensor_text_of_any_kind_parses_or_is_refused(text: str) -> None:
    try:
        spec = TensorSpec.parse(text)
    except ValueError:
        return
    assert spec.nbytes > 0
