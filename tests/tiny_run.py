"""A run folder with a tiny model, made without training: convolution, reshape, fully connected."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from codegen.model_builder import ModelBuilder

from converter.codegen import engine_needs, generate
from converter.memory import plan_memory
from converter.tflite_reader import load_graph

INPUT_SHAPE = (6, 6, 2)
CLASSES = 5


def tiny_model() -> bytes:
    """A .tflite of three operators: int8 [1, 6, 6, 2] in, int8 [1, 5] out."""
    chance = np.random.default_rng(7)
    builder = ModelBuilder()
    data = builder.input([1, *INPUT_SHAPE], 0.05, -3)
    filters = chance.integers(-127, 128, (4, 3, 3, 2), dtype=np.int8)
    bias = chance.integers(-500, 500, 4, dtype=np.int32)
    maps = builder.tensor([1, 6, 6, 4], "int8", 0.5, -128)
    builder.conv_2d(data, filters, bias, weight_scale=[0.01] * 4, output=maps, activation="relu")
    flat = builder.tensor([1, 144], "int8", 0.5, -128)
    builder.reshape(maps, flat)
    weights = chance.integers(-127, 128, (CLASSES, 144), dtype=np.int8)
    logits = builder.tensor([1, CLASSES], "int8", 2.0, 5)
    bias = chance.integers(-500, 500, CLASSES, dtype=np.int32)
    builder.fully_connected(flat, weights, bias, weight_scale=[0.02], output=logits)
    return builder.build(logits)


def tiny_inputs(samples: int) -> npt.NDArray[np.int8]:
    """Random inputs, int8 [samples, 6, 6, 2]."""
    return np.random.default_rng(8).integers(-128, 128, (samples, *INPUT_SHAPE), dtype=np.int8)


def write_run(folder: Path, inputs: npt.NDArray[np.int8], outputs: npt.NDArray[np.int8]) -> Path:
    """Write model.tflite and evaluation.npz; the labels are what `outputs` say."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.tflite").write_bytes(tiny_model())
    np.savez(
        folder / "evaluation.npz",
        inputs=inputs,
        int8_outputs=outputs,
        labels=outputs.argmax(axis=1).astype(np.int64),
        float_logits=outputs.astype(np.float32),
        class_names=np.array([f"class {index}" for index in range(CLASSES)]),
    )
    return folder


def generate_code(folder: Path) -> Path:
    """Write the tiny model's C++ into `folder` of a run folder, after which the model is named."""
    model = folder / "model.tflite"
    folder.mkdir(parents=True, exist_ok=True)
    model.write_bytes(tiny_model())
    graph = replace(load_graph(model), name=folder.parent.name)
    generate(graph, plan_memory(graph, engine_needs(graph)), folder)
    return folder
