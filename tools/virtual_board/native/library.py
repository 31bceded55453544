"""Loads the native callbacks: compiled once by Numba, then kept as machine code in the user's cache.

Numba takes about a second to import and several to compile; llvmlite, which comes with it, loads the kept
code in milliseconds. Every virtual board is a process of its own, so this matters.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakValueDictionary

import llvmlite.binding as llvm  # type: ignore[import-untyped]
from unicorn.unicorn_py3.unicorn import uclib

from common.files import write_bytes

_SOURCES = ("layout", "affine", "decode", "analysis", "callbacks", "jit", "trace_layout", "tracing")
# The callbacks, and the modules that they are in.
_CALLBACKS = {
    "on_block": "callbacks",
    "on_division": "callbacks",
    "on_refused_access": "callbacks",
    "on_uart_read": "callbacks",
    "on_translation": "callbacks",
    "on_shadow_read": "callbacks",
    "on_shadow_write": "callbacks",
    "on_traced_block": "tracing",
    "on_traced_access": "tracing",
}
_ENTRY_PREFIX = "cfunc."
# Called on error paths that Numba adds and that our callbacks never take.
_UNUSED_SYMBOLS = (
    "numba_gil_ensure",
    "numba_gil_release",
    "numba_unpickle",
    "numba_runtime_build_excinfo_struct",
    "numba_do_raise",
    "NRT_Free",
)
_UNICORN_SYMBOLS = ("uc_emu_stop", "uc_reg_read", "uc_context_save")


class UartReader(Protocol):
    """Who answers the reads of the UART that the native callback leaves to Python."""

    def read_uart(self, offset: int, size: int) -> int:
        """Return `size` bytes at `offset` of the UART's registers."""


# By the address of the shared array.
uart_readers: WeakValueDictionary[int, UartReader] = WeakValueDictionary()


def _read_uart(_unicorn: int, offset: int, size: int, shared: int) -> int:
    return uart_readers[shared].read_uart(offset, size)


READ_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint, ctypes.c_void_p
)
_read_uart_callback = READ_CALLBACK(_read_uart)


@dataclass(frozen=True)
class NativeCallbacks:
    """Host addresses of the callbacks; `engine` owns their code."""

    on_block: int
    on_division: int
    on_refused_access: int
    on_uart_read: int
    on_translation: int
    on_shadow_read: int
    on_shadow_write: int
    on_traced_block: int
    on_traced_access: int
    engine: Any


def cache_folder() -> Path:
    """Folder of the compiled callbacks: `$TINYBOOST_CACHE`, or the user's cache folder."""
    if folder := os.environ.get("TINYBOOST_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tinyboost"


def _fingerprint() -> str:
    """Hash of all that the machine code depends on."""
    digest = hashlib.sha256()
    for name in _SOURCES:
        digest.update((Path(__file__).parent / f"{name}.py").read_bytes())
    versions = (version("numba"), version("llvmlite"), version("unicorn"), *sys.version_info[:2])
    digest.update(repr((versions, llvm.get_default_triple(), _host_features())).encode())
    return digest.hexdigest()[:16]


def _host_features() -> tuple[str, str]:
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


def _machine() -> Any:
    cpu, features = _host_features()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(cpu=cpu, features=features, opt=2, jit=True)


def _compile() -> bytes:
    """Compile the callbacks; each keeps its own name in the object file."""
    whole = llvm.parse_assembly("")
    for name, source in _CALLBACKS.items():
        compiled = getattr(import_module(f"tools.virtual_board.native.{source}"), name)
        module = llvm.parse_assembly(compiled.inspect_llvm())
        next(f for f in module.functions if f.name.startswith(_ENTRY_PREFIX)).name = name
        whole.link_in(module)
    called = {f.name for f in whole.functions if f.is_declaration and not f.name.startswith("llvm.")}
    missing = [name for name in called if llvm.address_of_symbol(name) is None]
    if missing:
        raise RuntimeError(f"this version of Numba calls {missing}; install the pinned one")
    code: bytes = _machine().emit_object(whole)
    return code


def _object_code() -> bytes:
    """Return the callbacks' object file, from the cache where it is there."""
    path = cache_folder() / f"callbacks-{_fingerprint()}.o"
    try:
        return path.read_bytes()
    except OSError:
        code = _compile()
    with suppress(OSError):  # a cache that cannot be written costs time, nothing else
        write_bytes(path, code)
    return code


def _address(function: Any) -> int:
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    return address


@cache
def load() -> NativeCallbacks:
    """Return the callbacks, compiling them if this version of them was never compiled on this machine."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    for name in _UNICORN_SYMBOLS:
        llvm.add_symbol(name, _address(getattr(uclib, name)))
    llvm.add_symbol("virtual_board_read_uart", _address(_read_uart_callback))
    for name in _UNUSED_SYMBOLS:
        if llvm.address_of_symbol(name) is None:
            llvm.add_symbol(name, _address(ctypes.pythonapi.Py_FatalError))
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())
    engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(_object_code()))
    engine.finalize_object()
    addresses = {name: engine.get_function_address(name) for name in _CALLBACKS}
    return NativeCallbacks(**addresses, engine=engine)
