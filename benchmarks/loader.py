"""Say how long a training step waits for its batch, and how long it computes.

python -m benchmarks.loader -c examples/demo.toml --steps 50
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from common.errors import UserError
from tools import console
from tools.config import RunConfig, load_config
from tools.imports import import_all


@dataclass(frozen=True)
class Shares:
    """Seconds of all steps together, and the images in them."""

    waiting: float
    computing: float
    images: int

    def __str__(self) -> str:
        whole = self.waiting + self.computing
        return (
            f"{self.images / whole:,.0f} images/s; waits {self.waiting / whole:.1%} of the time, "
            f"computes {self.computing / whole:.1%}"
        )


def measure(config: RunConfig, steps: int) -> Shares:
    """Train the plain network of a configuration for `steps` steps, after one that is not counted.

    Raises ConfigError for what is wrong with the configuration or its data.
    """
    import torch
    from torch.nn import functional

    from trainer.data import load_dataset
    from trainer.data.batches import Batch
    from trainer.models import build_network

    device = config.train.device
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    dataset = load_dataset(config.data)
    network = build_network(config.model, dataset.input_shape, len(dataset.class_names)).to(device)
    network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload] # as the trainer does
    batches = dataset.batches(config.train)

    def endless() -> Iterator[Batch]:
        epoch = 0
        while True:
            yield from batches.epoch(epoch)
            epoch += 1

    def now() -> float:
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter()

    waiting = computing = 0.0
    images = 0
    ready = now()
    for number, batch in enumerate(islice(endless(), steps + 1)):
        asked, got = ready, now()
        network.zero_grad()
        torch.autograd.backward(functional.cross_entropy(network(batch.images), batch.labels))
        ready = now()
        if number:
            waiting += got - asked
            computing += ready - got
            images += len(batch.images)
    return Shares(waiting, computing, images)


def main() -> int:
    """Run as a program; gives the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.loader",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-c", "--config", type=Path, help="TOML file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a value")
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()
    try:
        config = load_config(options.config, options.set)
        import_all(config.imports)
        result = measure(config, options.steps)
    except UserError as error:
        console.err.print(f"error: {error}", markup=False, soft_wrap=True)
        return int(error.exit_code)
    console.line(str(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
