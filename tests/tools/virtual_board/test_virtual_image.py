"""Images are read completely or refused with a line that says why."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from virtual_firmware import BOARD, assemble, echo_image

from common.errors import ConfigError
from tools.virtual_board import image
from tools.virtual_board.image import demangle, load_image


def test_functions_are_found_by_address() -> None:
    loaded = load_image(BOARD, echo_image())
    put = next(function for function in loaded.functions if function.symbol == "put")
    assert loaded.name_at(put.address) == "put"
    assert loaded.name_at(put.address + put.size - 1) == "put"
    assert loaded.describe(put.address + 2) == f"0x{put.address + 2:08x} (put+0x2)"
    assert loaded.name_at(0x2000_0000) is None
    assert loaded.describe(0x2000_0000) == "0x20000000"


def test_segments_know_where_they_load_and_run() -> None:
    loaded = load_image(BOARD, assemble('b halt\n.section .itcm, "ax"\n.word 1, 2, 3\n.text\n'))
    itcm = next(segment for segment in loaded.segments if segment.run < 0x4000)
    assert itcm.data == struct.pack("<3I", 1, 2, 3)
    assert itcm.load >= 0x0800_0000


def _patched(elf: Path, path: Path, field: int, value: int) -> Path:
    """Write `elf` with a field of its first program header changed."""
    data = bytearray(elf.read_bytes())
    header = struct.unpack_from("<I", data, 28)[0]
    struct.pack_into("<I", data, header + 4 * field, value)
    path.write_bytes(data)
    return path


P_VADDR, P_PADDR, P_MEMSZ = 2, 3, 5


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (P_PADDR, 0x2000_0000, "loaded at 0x20000000, outside flash"),
        (P_PADDR, 0x0810_0000, "loaded at 0x08100000, outside flash"),
        (P_VADDR, 0x3000_0000, "run at 0x30000000, where stm32f746g_disco has no such memory"),
        (P_MEMSZ, 0x0100_0000, "where stm32f746g_disco has no such memory"),
    ],
)
def test_an_image_outside_real_memory_is_refused(
    tmp_path: Path, field: int, value: int, message: str
) -> None:
    path = _patched(echo_image(), tmp_path / "wrong.elf", field, value)
    with pytest.raises(ConfigError, match=message):
        load_image(BOARD, path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_image(BOARD, tmp_path / "absent.elf")
    program = shutil.which("true")
    assert program is not None
    with pytest.raises(ConfigError, match="not a 32-bit ARM ELF file"):
        load_image(BOARD, Path(program))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_are_refused_or_read(tmp_path: Path, data: st.DataObject) -> None:
    whole = bytearray(echo_image().read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.elf"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    message = "damaged.elf"
    try:
        load_image(BOARD, path)
    except ConfigError as error:
        message = str(error)
    assert "damaged.elf" in message
    assert "\n" not in message


def test_names_are_readable_with_and_without_a_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    symbols = ["_ZN9tinyboost4chip12handle_faultEjj", "main", "_Z3fooi"]
    with_filter = demangle(symbols)
    monkeypatch.setattr(image.shutil, "which", lambda _name: None)
    without = demangle(symbols)
    assert without == {
        "_ZN9tinyboost4chip12handle_faultEjj": "tinyboost::chip::handle_fault",
        "main": "main",
        "_Z3fooi": "foo",
    }
    for symbol in symbols:
        assert with_filter[symbol].startswith(without[symbol])
