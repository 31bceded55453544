"""Loads the native callbacks: compiled once by Numba, then kept as LLVM IR in the user's cache.

Numba takes about a second to import and several to compile; llvmlite, which comes with it, turns the kept IR
into machine code in a tenth of a second. Every virtual board is a process of its own, so this matters.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm  # type: ignore[import-untyped]
from unicorn.unicorn_py3.unicorn import uclib

from common.files import write_text

_SOURCES = ("layout.py", "affine.py", "decode.py", "analysis.py", "callbacks.py", "jit.py")
_CALLBACKS = ("on_block", "on_division", "on_refused_access", "on_uart_read")
_ENTRY_PREFIX = "cfunc."
_UNICORN_SYMBOLS = ("uc_emu_stop", "uc_reg_read", "uc_context_save")


# Reads of the UART that the native callback leaves to Python, by the address of the shared array.
uart_readers: dict[int, Callable[[int, int], int]] = {}


def _read_uart(_unicorn: int, offset: int, size: int, shared: int) -> int:
    return uart_readers[shared](offset, size)


READ_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint, ctypes.c_void_p
)
_read_uart_callback = READ_CALLBACK(_read_uart)


@dataclass(frozen=True)
class NativeCallbacks:
    """Host addresses of the callbacks; `engines` own their code."""

    on_block: int
    on_division: int
    on_refused_access: int
    on_uart_read: int
    engines: tuple[Any, ...]


def cache_folder() -> Path:
    """Folder of the compiled callbacks: `$TINYBOOST_CACHE`, or the user's cache folder."""
    if folder := os.environ.get("TINYBOOST_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tinyboost"


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for name in _SOURCES:
        digest.update((Path(__file__).parent / name).read_bytes())
    digest.update(f"{version('numba')} {version('llvmlite')} {sys.version_info[:2]}".encode())
    return digest.hexdigest()[:16]


def _compile() -> dict[str, str]:
    from tools.virtual_board.native import callbacks

    return {name: getattr(callbacks, name).inspect_llvm() for name in _CALLBACKS}


def _intermediate_code() -> dict[str, str]:
    """Return the IR of each callback, from the cache where it is there."""
    folder = cache_folder()
    paths = {name: folder / f"{name}-{_fingerprint()}.ll" for name in _CALLBACKS}
    try:
        return {name: path.read_text() for name, path in paths.items()}
    except OSError:
        code = _compile()
    try:
        for name, path in paths.items():
            write_text(path, code[name])
    except OSError:
        pass  # a cache that cannot be written costs time, nothing else
    return code


def _address(function: Any) -> int:
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    return address


def _link(code: str) -> tuple[Any, int]:
    module = llvm.parse_assembly(code)
    for function in module.functions:
        # Numba adds error paths that our callbacks never take; what they call need not exist.
        declared = function.is_declaration and not function.name.startswith("llvm.")
        if declared and llvm.address_of_symbol(function.name) is None:
            llvm.add_symbol(function.name, _address(ctypes.pythonapi.Py_FatalError))
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2
    )
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    entry = next(f.name for f in module.functions if f.name.startswith(_ENTRY_PREFIX))
    return engine, engine.get_function_address(entry)


@cache
def load() -> NativeCallbacks:
    """Return the callbacks, compiling them if this version of them was never compiled on this machine."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    for name in _UNICORN_SYMBOLS:
        llvm.add_symbol(name, _address(getattr(uclib, name)))
    llvm.add_symbol("virtual_board_read_uart", _address(_read_uart_callback))
    code = _intermediate_code()
    linked = {name: _link(code[name]) for name in _CALLBACKS}
    engines = tuple(engine for engine, _ in linked.values())
    return NativeCallbacks(**{name: address for name, (_, address) in linked.items()}, engines=engines)
