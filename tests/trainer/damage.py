"""Damaged files, and what reading them must give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from common.errors import ConfigError


def damage(data: st.DataObject, content: bytes) -> bytes:
    """Cut the content off, or change some of its bytes."""
    damaged = bytearray(content)
    if data.draw(st.booleans(), label="cut"):
        return bytes(damaged[: data.draw(st.integers(0, len(damaged) - 1))])
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    return bytes(damaged)


def outcome(read: Callable[[], Any]) -> tuple[str | None, Any]:
    """The message of a ConfigError and None, or None and the result; other exceptions fail the test."""
    try:
        return None, read()
    except ConfigError as error:
        return str(error), None
