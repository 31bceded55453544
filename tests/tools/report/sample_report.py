"""A report with plausible figures, made by hand: a small residual network on ten classes."""

from __future__ import annotations

import math

import numpy as np

from tools.report.content import (
    Accuracy,
    Curve,
    Flash,
    Layer,
    MemoryPlan,
    PlannedTensor,
    Ram,
    RamRegion,
    Report,
    Sample,
    Score,
    Timing,
)

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def sample_image(index: int, side: int = 32, channels: int = 3) -> np.ndarray:
    """A colour gradient that differs from sample to sample."""
    rows, columns = np.mgrid[0:side, 0:side] * 255 // (side - 1)
    planes = [rows, columns, np.full_like(rows, index * 37 % 256)][:channels]
    return np.stack(planes, axis=-1).astype(np.uint8)


def make_samples(number: int, *, wrong_every: int, first: int = 0, images: bool = True) -> tuple[Sample, ...]:
    """Samples of which every `wrong_every`-th is answered wrongly."""
    samples = []
    for index in range(first, first + number):
        label = index % len(CLASSES)
        answer = (label + 3) % len(CLASSES) if index % wrong_every == 0 else label
        samples.append(Sample(index, answer, answer, label, answer, sample_image(index) if images else None))
    return tuple(samples)


def make_confusion(samples: int) -> np.ndarray:
    matrix = np.random.default_rng(0).poisson(samples / 2000, (10, 10)).astype(np.int64)
    np.fill_diagonal(matrix, samples // 11)
    return matrix


def make_plan() -> MemoryPlan:
    sizes = (3072, 16384, 16384, 16384, 8192, 8192, 4096, 64, 10, 10)
    operators = (
        "CONV_2D",
        "CONV_2D",
        "CONV_2D",
        "ADD",
        "CONV_2D",
        "CONV_2D",
        "AVERAGE_POOL_2D",
        "FULLY_CONNECTED",
        "SOFTMAX",
    )
    tensors = [PlannedTensor("serving_default_input:0", "input", 0, 0, 32768, 3072)]
    offsets = (0, 16384, 32768, 16384, 0, 8192, 0, 4096, 0)
    for index, (offset, size) in enumerate(zip(offsets, sizes[1:], strict=True)):
        last = min(index + (3 if index == 0 else 1), len(operators) - 1)
        role = "output" if index == len(operators) - 1 else "activation"
        tensors.append(PlannedTensor(f"model/block_{index}/Relu;bias", role, index, last, offset, size))
    tensors.append(PlannedTensor("conv scratch", "scratch", 2, 2, 49152, 1024))
    return MemoryPlan(arena=50176, operators=operators, tensors=tuple(tensors), peak=2)


def make_layers() -> tuple[Layer, ...]:
    plan = make_plan()
    macs = (442368, 2359296, 2359296, 0, 1179648, 2359296, 0, 640, 0)
    layers = []
    for index, op in enumerate(plan.operators):
        live = sum(t.size for t in plan.tensors if t.first <= index <= t.last)
        instructions = int(macs[index] * (1.2 + 0.1 * index)) + 4000
        layers.append(
            Layer(
                index, f"block_{index}/{op.lower()}", op, macs[index], macs[index] // 900, live, instructions
            )
        )
    return tuple(layers)


def make_curves(epochs: int = 30) -> tuple[Curve, ...]:
    at = tuple(float(epoch) for epoch in range(1, epochs + 1))
    decay = [math.exp(-epoch / 8) for epoch in at]
    return (
        Curve("train loss", "loss", at, tuple(0.35 + 1.9 * d for d in decay)),
        Curve("test", "accuracy", at, tuple(0.86 - 0.6 * d for d in decay)),
        Curve("train", "accuracy", at, tuple(0.92 - 0.7 * d for d in decay)),
        Curve(
            "learning rate",
            "learning rate",
            at,
            tuple(0.05 + 0.05 * math.cos(epoch / epochs * 3.14) for epoch in at),
        ),
    )


def make_report(**changes: object) -> Report:
    """The example, with fields replaced."""
    layers = make_layers()
    fields: dict[str, object] = {
        "name": "demo",
        "model": "model.tflite",
        "board": "STM32F746G-DISCO",
        "target": "virtual",
        "engine": "aot",
        "samples": 1000,
        "accuracy": Accuracy(Score(869, 1000), Score(864, 1000), Score(864, 1000)),
        "mismatches": 0,
        "output_mismatches": 0,
        "quantization_changes": 17,
        "timing": Timing(216_000_000, "instructions", sum(layer.count or 0 for layer in layers), 17_334_518),
        "ram": Ram(
            budget=327_680,
            arena=50_176,
            data_bss=1_892,
            stack=924,
            regions=(
                RamRegion("dtcm", 2_816, 65_536),
                RamRegion("sram1", 50_176, 245_760),
                RamRegion("sram2", 0, 16_384),
            ),
        ),
        "flash": Flash(budget=1_048_576, weights=78_666, code=21_340),
        "model_sha256": "9f" * 32,
        "git_revision": "fdd47551c0de",
        "plan": make_plan(),
        "layers": layers,
        "training": make_curves(),
        "classes": CLASSES,
        "confusion": make_confusion(1000),
        "first_samples": make_samples(24, wrong_every=7),
        "mistakes": make_samples(12, wrong_every=1, first=30),
        "stages": {"train": 74.2, "convert": 21.9, "build": 3.4, "test": 11.0},
        "versions": {"tinyboost": "0.1.0", "torch": "2.13.0", "tflite-micro": "0.dev20261023182759"},
    }
    return Report(**(fields | changes))  # type: ignore[arg-type]


def make_plain_report(**changes: object) -> Report:
    """The example without what is drawn, which is quick to render."""
    nothing: dict[str, object] = {"plan": None, "layers": (), "training": (), "confusion": None}
    return make_report(**(nothing | {"first_samples": (), "mistakes": ()} | changes))
