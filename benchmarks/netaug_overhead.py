"""Seconds of an epoch of NetAug and of plain training, on the same data pipeline (Cai et al.: 16.7 % more).

python -m benchmarks.netaug_overhead       MobileNetV2-Tiny at 160 px: in memory, and JPEGs in shards
python -m benchmarks.netaug_overhead --device cuda --images 20000 --batch-size 256 --precision bfloat16
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import platform
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from common.errors import UserError
from tools import console
from trainer import train
from trainer.config import DataConfig, ModelConfig, NetAugConfig, TrainConfig, WebDatasetConfig

RESOLUTION = 160
CLASSES = 10
TEST_IMAGES = 16
METHODS = ("plain", "netaug")


@dataclass(frozen=True)
class Epoch:
    """The fastest epoch: seconds by the clock, and of all processor cores."""

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Overhead:
    """Epochs of both methods on one pipeline, and of the pipeline without any training."""

    pipeline: str
    data_alone: Epoch
    plain: Epoch
    netaug: Epoch

    @property
    def ratio(self) -> float:
        """NetAug's seconds by the clock / those of plain training."""
        return self.netaug.seconds / self.plain.seconds

    @property
    def cpu_ratio(self) -> float:
        """The same of processor seconds, which other programs hardly change."""
        return self.netaug.cpu_seconds / self.plain.cpu_seconds


def pictures(count: int, size: tuple[int, int]) -> Iterable[tuple[Image.Image, int]]:
    """RGB pictures of (width, height), smooth shapes with some noise, and their labels."""
    generator = np.random.default_rng(0)
    for index in range(count):
        coarse = generator.integers(0, 256, (12, 16, 3), np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), np.int16)
        noise = generator.integers(-12, 13, smooth.shape, np.int16)
        yield Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8)), index % CLASSES


def in_memory(folder: Path, images: int, _: int) -> DataConfig:
    """An .npz file of pictures that have the network's resolution."""
    arrays = {}
    for name, count in (("train", images), ("test", TEST_IMAGES)):
        samples = list(pictures(count, (RESOLUTION, RESOLUTION)))
        arrays[f"{name}_images"] = np.stack([np.asarray(image) for image, _ in samples])
        arrays[f"{name}_labels"] = np.array([label for _, label in samples], np.int64)
    np.savez(folder / "pictures.npz", allow_pickle=False, **arrays)
    return DataConfig(name="npz", path=folder / "pictures.npz", crop_padding=8, flip=True)


def in_shards(folder: Path, images: int, jpeg_width: int) -> DataConfig:
    """Shards of JPEGs, decoded and cropped at random as they are needed."""
    size = jpeg_width, jpeg_width * 3 // 4
    for name, count in (("train", images), ("val", TEST_IMAGES)):
        with tarfile.open(folder / f"{name}.tar", "w") as shard:
            for index, (image, label) in enumerate(pictures(count, size)):
                encoded = io.BytesIO()
                image.save(encoded, "JPEG", quality=90)
                for suffix, content in (("jpg", encoded.getvalue()), ("cls", str(label).encode())):
                    member = tarfile.TarInfo(f"{index:06d}.{suffix}")
                    member.size = len(content)
                    shard.addfile(member, io.BytesIO(content))
    return DataConfig(
        name="webdataset",
        path=folder,
        webdataset=WebDatasetConfig(train="train.tar", test="val.tar"),
        resolution=RESOLUTION,
        crop_scale=0.08,
        flip=True,
    )


PIPELINES = {"memory": in_memory, "webdataset": in_shards}


class _Marks(logging.Handler):
    """The clocks at the end of each epoch, which the training logs."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.marks: list[tuple[float, float]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "ETA" in record.getMessage():
            self.marks.append((time.perf_counter(), time.process_time()))


def fastest(marks: list[tuple[float, float]]) -> Epoch:
    """Of the epochs between marks."""
    spans = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(marks)]
    return Epoch(min(span[0] for span in spans), min(span[1] for span in spans))


def train_epochs(data: DataConfig, config: TrainConfig, folder: Path) -> Epoch:
    """The fastest epoch but the first, which warms up, and the last, which evaluates."""
    logger, marks = logging.getLogger("trainer"), _Marks()
    level = logger.level
    logger.addHandler(marks)
    logger.setLevel(logging.INFO)
    try:
        train(data, ModelConfig(name="mobilenet_v2_tiny"), config, folder, show_progress=False)
    finally:
        logger.removeHandler(marks)
        logger.setLevel(level)
    return fastest(marks.marks[:-1])


def load_epochs(data: DataConfig, config: TrainConfig) -> Epoch:
    """The fastest epoch of batches that nobody is trained on."""
    from trainer.data import load_dataset

    batches = load_dataset(data).batches(config)
    marks = [(time.perf_counter(), time.process_time())]
    for epoch in range(config.epochs - 2):
        for batch in batches.epoch(epoch):
            batch.images.sum().item()
        marks.append((time.perf_counter(), time.process_time()))
    return fastest(marks)


def measure(pipeline: str, images: int, jpeg_width: int, config: TrainConfig) -> Overhead:
    """All three on one pipeline, in a folder that is not kept."""
    with tempfile.TemporaryDirectory(prefix="tinyboost-") as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = name  # where shards' contents are listed
        data = PIPELINES[pipeline](folder, images, jpeg_width)
        alone = load_epochs(data, config)
        plain, netaug = (
            train_epochs(data, config.model_copy(update={"method": method}), folder / method)
            for method in METHODS
        )
    return Overhead(pipeline, alone, plain, netaug)


def machine() -> dict[str, object]:
    """What the figures were measured on, and how busy it was."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "gpu": gpu,
        "load_average": os.getloadavg()[0],
        "torch": torch.__version__,
    }


def show(overheads: Iterable[Overhead], where: dict[str, object]) -> None:
    """Print a table."""
    console.line(", ".join(f"{key} {value}" for key, value in where.items() if value is not None))
    console.line(f"{'seconds of an epoch':<22}{'data alone':>12}{'plain':>12}{'netaug':>12}{'ratio':>8}")
    for found in overheads:
        for kind, key, ratio in (
            ("clock", "seconds", found.ratio),
            ("processor", "cpu_seconds", found.cpu_ratio),
        ):
            values = [getattr(epoch, key) for epoch in (found.data_alone, found.plain, found.netaug)]
            cells = "".join(f"{value:>12.2f}" for value in values)
            console.line(f"{f'{found.pipeline}, {kind}':<22}{cells}{ratio:>8.2f}")


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line; give the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.netaug_overhead",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--pipeline", choices=PIPELINES, action="append", help="default: all")
    parser.add_argument("--images", type=int, default=512, help="in an epoch; default 512")
    parser.add_argument("--jpeg-width", type=int, default=500, help="default 500, as ImageNet's")
    parser.add_argument("--epochs", type=int, default=2, help="that are measured; default 2")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    epochs = options.epochs + 2
    config = TrainConfig(
        epochs=epochs,
        evaluate_every=epochs,
        checkpoint_every=epochs,
        batch_size=options.batch_size,
        workers=options.workers,
        threads=options.threads,
        device=options.device,
        precision=options.precision,
        netaug=NetAugConfig(random_epochs=epochs, calibration_images=options.batch_size),
    )
    try:
        where = machine()
        overheads = [
            measure(name, options.images, options.jpeg_width, config)
            for name in options.pipeline or PIPELINES
        ]
    except UserError as error:
        console.err.print(f"error: {error}", markup=False, soft_wrap=True)
        return int(error.exit_code)
    if options.json:
        found = [asdict(o) | {"ratio": o.ratio, "cpu_ratio": o.cpu_ratio} for o in overheads]
        sys.stdout.write(json.dumps({"schema": 1, "machine": where, "pipelines": found}, indent=2) + "\n")
    else:
        show(overheads, where)
    return 0


if __name__ == "__main__":
    sys.exit(main())
