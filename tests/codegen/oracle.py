"""Runs a model in the tflite-micro interpreter and as generated code, and compares."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tflite_micro import runtime

from converter.board import FIRMWARE_DIR
from converter.codegen import engine_needs, generate
from converter.codegen.host import HostModel, build_host_model
from converter.graph import Graph
from converter.memory import plan_memory
from converter.tflite_reader import parse_graph

Values = npt.NDArray[Any]

# Reads the inputs of one inference after another, writes the outputs.
_RUNNER = """
#include <cstdio>
#include "engine/engine.h"
int main() {
  const auto& m = tinyboost::engine::model();
  if (tinyboost::engine::initialise() != tinyboost::engine::Status::kOk) return 1;
  for (;;) {
    for (int i = 0; i < m.input_count; ++i) {
      if (std::fread(m.inputs[i].data, 1, m.inputs[i].bytes, stdin) != m.inputs[i].bytes) return 0;
    }
    if (tinyboost::engine::invoke(nullptr) != tinyboost::engine::Status::kOk) return 1;
    for (int i = 0; i < m.output_count; ++i) {
      std::fwrite(m.outputs[i].data, 1, m.outputs[i].bytes, stdout);
    }
  }
}
"""
_SANITIZED = ["-std=c++17", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def generated(data: bytes, folder: Path) -> Graph:
    """Generate the code of the model `data`."""
    graph = parse_graph(data, "model")
    generate(graph, plan_memory(graph, engine_needs(graph)), folder)
    return graph


def build(data: bytes, folder: Path) -> tuple[Graph, HostModel]:
    """Generate, compile and load the model `data`."""
    graph = generated(data, folder)
    return graph, build_host_model(graph, folder)


def run_sanitized(graph: Graph, folder: Path, runs: Sequence[Sequence[Values]]) -> list[list[Values]]:
    """Run the generated code under the address and undefined behaviour sanitizers."""
    (folder / "runner.cc").write_text(_RUNNER)
    command = ["g++", *_SANITIZED, f"-I{FIRMWARE_DIR}", f"-I{folder}", "-o", str(folder / "runner")]
    subprocess.run([*command, str(folder / "runner.cc"), str(folder / "model.cc")], check=True)
    stream = b"".join(values.tobytes() for inputs in runs for values in inputs)
    done = subprocess.run([folder / "runner"], input=stream, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    raw, answers = done.stdout, []
    for _ in runs:
        answers.append([])
        for tensor in (graph.tensors[i] for i in graph.outputs):
            answers[-1].append(np.frombuffer(raw[: tensor.nbytes], tensor.dtype).reshape(tensor.shape))
            raw = raw[tensor.nbytes :]
    return answers


def interpreter(data: bytes) -> Any:
    """The tflite-micro interpreter with an arena that is surely large enough."""
    return runtime.Interpreter.from_bytes(data, arena_size=8 << 20)


def reference(interpreter: Any, inputs: Sequence[Values], outputs: int = 1) -> list[Values]:
    """What tflite-micro answers."""
    for i, values in enumerate(inputs):
        interpreter.set_input(values, i)
    interpreter.invoke()
    return [np.array(interpreter.get_output(i)) for i in range(outputs)]


def preserved_tensors(data: bytes, graph: Graph, inputs: Sequence[Values]) -> dict[int, Values]:
    """What every operator of `graph` writes, according to tflite-micro."""
    keeping = runtime.Interpreter.from_bytes(
        data, arena_size=8 << 20, intrepreter_config=runtime.InterpreterConfig.kPreserveAllTensors
    )
    for i, values in enumerate(inputs):
        keeping.set_input(values, i)
    keeping.invoke()
    written = [operator.outputs[0] for operator in graph.operators]
    return {index: np.array(keeping.GetTensor(index, 0)["tensor_data"]) for index in written}


def random_inputs(graph: Graph, rng: np.random.Generator) -> list[Values]:
    """Values for each input: the whole int8 range, a narrow band, or the extremes only."""
    found = []
    for index in graph.inputs:
        tensor = graph.tensors[index]
        if tensor.dtype == np.float32:
            found.append(rng.normal(0, 3, tensor.shape).astype(np.float32))
            continue
        low, high = [(-128, 128), (-9, 10), (126, 128), (-128, -125)][rng.choice(4, p=[0.7, 0.1, 0.1, 0.1])]
        found.append(rng.integers(low, high, tensor.shape).astype(tensor.dtype))
    return found


def assert_equal(graph: Graph, got: Sequence[Values], expected: Sequence[Values]) -> None:
    """All outputs are equal, bit for bit."""
    for index, values, wanted in zip(graph.outputs, got, expected, strict=True):
        producer = next(o for o in graph.operators if index in o.outputs)
        np.testing.assert_array_equal(values, wanted, f"operator {producer}")


def assert_bit_exact(
    data: bytes,
    folder: Path,
    rounds: int,
    seed: int,
    *,
    sanitized: bool = False,
    also: Sequence[Sequence[Values]] = (),
) -> None:
    """The generated code answers as tflite-micro does, bit for bit, on random inputs and on `also`."""
    graph = generated(data, folder)
    oracle, rng = interpreter(data), np.random.default_rng(seed)
    runs = [random_inputs(graph, rng) for _ in range(rounds)]
    runs += [list(inputs) for inputs in also]
    if sanitized:
        answers = run_sanitized(graph, folder, runs)
    else:
        model = build_host_model(graph, folder)
        answers = [list(model(*inputs)) for inputs in runs]
    for inputs, answer in zip(runs, answers, strict=True):
        assert_equal(graph, answer, reference(oracle, inputs, len(graph.outputs)))
