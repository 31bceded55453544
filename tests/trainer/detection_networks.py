"""A small detector, and images with boxes that it can learn, shared by several tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from trainer.config import DataConfig, DetectorConfig, ModelConfig, StageConfig
from trainer.detection import Detector, build_detector
from trainer.models.initialise import initialise

SIDE = 64
CLASSES = 2
NAMES = ("disc", "square")
DETECTOR = DetectorConfig(
    widths=(16, 12, 8),
    anchors=(
        ((8, 8), (12, 12), (16, 16)),
        ((16, 12), (20, 20), (24, 24)),
        ((28, 28), (32, 32), (40, 40)),
    ),
)
MODEL = ModelConfig(
    stem_channels=8,
    stages=(
        StageConfig(expand_ratio=3, channels=8, stride=2),
        StageConfig(expand_ratio=3, channels=12, blocks=2, stride=2),
        StageConfig(expand_ratio=3, channels=16, blocks=2, stride=2),
        StageConfig(expand_ratio=2, channels=24, blocks=2, stride=2),
    ),
    last_channels=0,
    detector=DETECTOR,
)


def detector(seed: int = 0) -> Detector:
    """The small detector, with weights and statistics that hide nothing."""
    network = build_detector(MODEL, (3, SIDE, SIDE), CLASSES)
    initialise(network, "kaiming_uniform", seed)
    with torch.no_grad():
        for _ in range(20):
            network.train()(torch.randn(8, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)))
    return network


def write_shapes(
    folder: Path, train: int = 24, test: int = 8, size: tuple[int, int] = (80, 72)
) -> DataConfig:
    """Write a VOC folder of coloured shapes on grey, `size` (width, height); give its configuration."""
    generator = np.random.default_rng(0)
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    identifiers = [f"{index:03}" for index in range(train + test)]
    for identifier in identifiers:
        pixels, boxes = draw_shapes(generator, size)
        Image.fromarray(pixels).save(folder / "JPEGImages" / f"{identifier}.jpg", quality=95)
        (folder / "Annotations" / f"{identifier}.xml").write_text(annotation(boxes))
    for name, part in (("trainval", identifiers[:train]), ("test", identifiers[train:])):
        (folder / "ImageSets/Main" / f"{name}.txt").write_text("".join(f"{item}\n" for item in part))
    return DataConfig(name="voc", path=folder, resolution=SIDE)


Box = tuple[str, int, int, int, int]


def draw_shapes(
    generator: np.random.Generator, size: tuple[int, int]
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.uint8]], list[Box]]:
    """One to three shapes that do not touch; boxes are (name, xmin, ymin, xmax, ymax), counted from 1."""
    width, height = size
    pixels = np.full((height, width, 3), 128, np.uint8)
    y, x = np.mgrid[:height, :width]
    boxes: list[Box] = []
    for corner in generator.permutation(4)[: generator.integers(1, 4)]:
        side = int(generator.integers(14, 28))
        left = int(generator.integers(0, width // 2 - side)) + (corner % 2) * (width // 2)
        top = int(generator.integers(0, height // 2 - side)) + (corner // 2) * (height // 2)
        square = bool(generator.random() < 0.5)
        radius = side / 2
        disc = (x + 0.5 - left - radius) ** 2 + (y + 0.5 - top - radius) ** 2 <= radius**2
        frame = (x >= left) & (x < left + side) & (y >= top) & (y < top + side)
        pixels[frame if square else disc] = (250, 20, 20) if square else (20, 20, 250)
        boxes.append((NAMES[square], left + 1, top + 1, left + side, top + side))
    return pixels, boxes


def annotation(boxes: list[Box], difficult: tuple[int, ...] = ()) -> str:
    """The XML file of an image."""
    objects = "".join(
        f"<object><name>{name}</name><difficult>{int(index in difficult)}</difficult><bndbox>"
        f"<xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
        for index, (name, left, top, right, bottom) in enumerate(boxes)
    )
    return f"<annotation>{objects}</annotation>"
