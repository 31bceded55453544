"""Generated models as shared libraries for the workstation: compiled by g++, called through ctypes."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import CheckFailedError, ToolMissingError
from converter.board import FIRMWARE_DIR
from converter.graph import Graph

CXX_FLAGS = (
    *("-std=c++17", "-O2", "-fno-exceptions", "-fno-rtti", "-fPIC", "-shared", "-fvisibility=hidden"),
    *("-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow"),
)

_BRIDGE = """
#include "engine/engine.h"
namespace e = tinyboost::engine;
#define EXPORT extern "C" __attribute__((visibility("default")))
EXPORT void* input(int i) { return e::model().inputs[i].data; }
EXPORT void* output(int i) { return e::model().outputs[i].data; }
EXPORT const char* description() { return e::model().description; }
EXPORT int invoke(void (*hook)(uint16_t)) { return static_cast<int>(e::invoke(hook)); }
"""


class HostModel:
    """A generated model that runs on the workstation."""

    def __init__(self, graph: Graph, library: Path) -> None:
        """Load `library`, built from the code of `graph`."""
        self._graph = graph
        loaded = ctypes.CDLL(str(library))
        self._input = self._function(loaded, "input", ctypes.c_void_p)
        self._output = self._function(loaded, "output", ctypes.c_void_p)
        self._invoke = self._function(loaded, "invoke", ctypes.c_int)
        describe = self._function(loaded, "description", ctypes.c_char_p)
        self.description: str = describe().decode()

    @staticmethod
    def _function(library: ctypes.CDLL, name: str, result: Any) -> Any:
        function = getattr(library, name)
        function.restype = result
        return function

    def __call__(self, *inputs: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], ...]:
        """Run the model once; arrays have the shapes and dtypes of the graph's inputs and outputs."""
        for i, (index, values) in enumerate(zip(self._graph.inputs, inputs, strict=True)):
            tensor = self._graph.tensors[index]
            data = np.ascontiguousarray(values, dtype=tensor.dtype)
            assert data.shape == tensor.shape, f"input {i} has shape {data.shape}, not {tensor.shape}"
            ctypes.memmove(self._input(i), data.ctypes.data, data.nbytes)
        if self._invoke(None) != 0:
            raise CheckFailedError(f"{self._graph.name}: the engine failed on the host")
        results = []
        for i, index in enumerate(self._graph.outputs):
            tensor = self._graph.tensors[index]
            raw = ctypes.string_at(self._output(i), tensor.nbytes)
            results.append(np.frombuffer(raw, tensor.dtype).reshape(tensor.shape))
        return tuple(results)


def compile_host(sources: Sequence[Path], library: Path, flags: Sequence[str] = ()) -> None:
    """Compile `sources` into the shared library `library`.

    Raises:
        ToolMissingError: no g++.
        CheckFailedError: the compiler refuses the code.
    """
    if shutil.which("g++") is None:
        raise ToolMissingError("g++ is not installed; install it with: apt install g++")
    command = ["g++", *CXX_FLAGS, f"-I{FIRMWARE_DIR}", *flags, "-o", str(library), *map(str, sources)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[:200])
        raise CheckFailedError(f"the generated code does not compile on the host: {first}")


def build_host_model(graph: Graph, folder: Path, flags: Sequence[str] = ()) -> HostModel:
    """Compile the model.cc that `generate` wrote into `folder` and load it.

    Raises:
        ToolMissingError: no g++.
        CheckFailedError: the compiler refuses the code.
    """
    bridge = folder / "bridge.cc"
    bridge.write_text(_BRIDGE)
    library = folder / "model.so"
    compile_host([folder / "model.cc", bridge], library, [f"-I{folder}", *flags])
    return HostModel(graph, library)
