"""Kinds of instructions, as someone who writes kernels tells them apart."""

from __future__ import annotations

import re
from collections.abc import Iterator

from capstone import CS_ARCH_ARM, CS_MODE_MCLASS, CS_MODE_THUMB, Cs

# The first pattern that fits the start of a mnemonic decides. Source: ARMv7-M Architecture Reference Manual,
# chapter A4.
_KINDS = (
    ("load", r"ldr|ldm|ldc|pop|pld|vldr|vldm|vpop"),
    ("store", r"str|stm|push|vstr|vstm|vpush"),
    ("dual multiply", r"smla[ld]*d|smlsl?d|smu[as]d"),
    ("multiply", r"mul|mla|mls|smul|smla|smmul|smmla|smmls|umull|umlal|umaal"),
    ("widen and pack", r"[su]xta?[bh]|pkh|rev|ror"),
    ("saturate", r"[su]sat|q|[su]h?(add|sub|asx|sax)(8|16)|sel"),
    ("branch", r"b(?!f|ic)|cbn?z|tb[bh]"),
    ("compare", r"cm[pn]|tst|teq|it"),
    ("move", r"mov|mvn|adr"),
    ("floating point", r"v"),
    ("arithmetic", r"add|adc|sub|sbc|rsb|neg|and|orr|orn|eor|bic|bf[ci]|[su]bfx|ls[lr]|asr|clz|[su]div"),
)
OTHER = "other"
KINDS = (*(name for name, _ in _KINDS), OTHER)
_PATTERNS = tuple((name, re.compile(pattern)) for name, pattern in _KINDS)


def kind_of(mnemonic: str) -> str:
    """Kind of an instruction, one of `KINDS`, by its mnemonic (any condition or width behind it)."""
    return next((name for name, pattern in _PATTERNS if pattern.match(mnemonic)), OTHER)


def disassemble(code: bytes, address: int) -> Iterator[tuple[int, str]]:
    """Address and mnemonic of each Thumb-2 instruction of `code`; it ends where nothing can be decoded."""
    decoder = Cs(CS_ARCH_ARM, CS_MODE_THUMB | CS_MODE_MCLASS)
    for place, _, mnemonic, _ in decoder.disasm_lite(code, address):
        yield place, mnemonic
