"""docs/protocol.md, the firmware and the host name the same numbers."""

from __future__ import annotations

import re

from firmware_build import FIRMWARE, REPOSITORY
from protocol_oracle import ECHO, RESET, encode

from tools.link.messages import ErrorCode, MessageType

DOCUMENT = (REPOSITORY / "docs" / "protocol.md").read_text()
HEADER = (FIRMWARE / "harness" / "protocol.h").read_text()
ROBOT = (REPOSITORY / "board_tests" / "renode" / "f746.robot").read_text()


def documented(pattern: str) -> dict[str, int]:
    return {name: int(number, 0) for number, name in re.findall(pattern, DOCUMENT, re.MULTILINE)}


def in_header(enumeration: str) -> dict[str, int]:
    body = re.search(rf"enum class {enumeration}.*?{{(.*?)}};", HEADER, re.DOTALL)
    assert body is not None
    pairs = re.findall(r"k(\w+) = (\w+),", body[1])
    return {re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper(): int(number, 0) for name, number in pairs}


def test_message_types() -> None:
    messages = documented(r"^\| (0x\w\w) \| ([A-Z]+) \|")
    assert len(messages) == 9
    assert in_header("MessageType") == messages
    assert {member.name: member.value for member in MessageType} == messages


def test_error_codes() -> None:
    errors = documented(r"^\| (\d) \| ([A-Z_]+) \|")
    assert len(errors) == 9
    assert in_header("ErrorCode") == errors
    assert {member.name: member.value for member in ErrorCode} == errors


def test_fault_record() -> None:
    text = re.search(r"Fault record, u32 each: (.*)\.", DOCUMENT)
    body = re.search(r"struct FaultRecord {(.*?)};", HEADER, re.DOTALL)
    assert text is not None
    assert body is not None
    documented_fields = [field.removesuffix(" number").lower() for field in text[1].split(", ")]
    assert re.findall(r"uint32_t (\w+);", body[1]) == documented_fields


def test_frames_of_the_renode_test() -> None:
    def written(name: str) -> bytes:
        line = re.search(rf"^[@$]{{{name}}} +(.*)$", ROBOT, re.MULTILINE)
        assert line is not None
        return bytes(int(byte, 16) for byte in line[1].split())

    payload = bytes([0, 1, 0])
    assert written("ECHO_REQUEST") == encode(ECHO, 0x0102, payload)
    assert written("ECHO_REPLY") == encode(ECHO | 0x80, 0x0102, payload)
    assert written("RESET_REQUEST") == encode(RESET, 0x0103)
    assert written("RESET_REPLY") == encode(RESET | 0x80, 0x0103)
