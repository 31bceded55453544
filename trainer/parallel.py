"""Several processes that share the steps of one training, on one host or on many.

Each takes its part of every batch; gradients are added up, so that all make the same steps. The processes
find each other through the environment that torchrun and accelerate launch set; they talk by gloo between
CPUs and by NCCL between CUDA devices.
"""

from __future__ import annotations

import atexit
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn

from common.errors import ConfigError, UserError
from trainer.config import TrainConfig
from trainer.launch import Launch, launched

_BUCKET = 8 * 2**20  # numbers that are added up at once


class LostProcessError(UserError):
    """Another process of the same training failed, or could not be reached in time."""


@dataclass(frozen=True)
class Ranks:
    """The processes of a training, `count` of them; this one is number `rank`, from 0.

    With one process, nothing happens. Otherwise all of them must call the same methods in the same order. All
    raise LostProcessError where another process is gone, or has not come after the time-out.
    """

    rank: int = 0
    count: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the process that writes files and speaks for all."""
        return self.rank == 0

    @property
    def indices(self) -> tuple[int, ...]:
        """For seeds of what differs between processes; none in the first one, as if it were alone."""
        return () if self.main else (self.rank,)

    def sum(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over all processes, the same bits in all of them."""
        if self.count > 1:
            _sum(list(tensors))

    @torch.no_grad()
    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its mean over all processes; equal ones stay as they are."""
        if self.count > 1:
            own = list(tensors)
            sums = [tensor.double() for tensor in own]
            _sum(sums)
            for tensor, total in zip(own, sums, strict=True):
                tensor.copy_(total / self.count)

    def sum_gradients(self, network: nn.Module) -> None:
        """Replace the gradients, of the same parameters in all processes, by their sums."""
        self.sum(p.grad for p in network.parameters() if p.grad is not None)

    def broadcast(self, make: Callable[[], bytes | None]) -> bytes | None:
        """What `make` gives in process 0, in all processes."""
        if self.count == 1:
            return make()
        content = make() if self.main else None
        length = torch.tensor(-1 if content is None else len(content))
        with _others():
            distributed.broadcast(length, 0)
            if int(length) < 0:
                return None
            values = torch.frombuffer(bytearray(content or bytes(int(length))), dtype=torch.uint8)
            if len(values):
                distributed.broadcast(values, 0)
        return values.numpy().tobytes()

    def require_equal(self, settings: dict[str, Any]) -> None:
        """Raise ConfigError where the settings, dotted keys with JSON values, are not those of process 0."""
        first = self.broadcast(lambda: json.dumps(settings).encode())
        assert first is not None
        for key, value in json.loads(first).items():
            if settings.get(key) != value:
                raise ConfigError(
                    f"{key} is {settings.get(key)!r} here, {value!r} in process 1: "
                    "give all processes the same configuration and data"
                )


@contextmanager
def joined(config: TrainConfig) -> Iterator[Ranks]:
    """Join the other processes of this training, if there are any.

    They stay together for further trainings, until they end or one raises an error. Raises ConfigError where
    the batch cannot be shared among them, LostProcessError where they do not come.
    """
    launch = launched()
    if launch.count == 1:
        yield Ranks()
        return
    _check_parts(config, launch)
    if not distributed.is_initialized():
        _join(config, launch)
        atexit.register(_leave)
    try:
        yield Ranks(launch.rank, launch.count)
    except BaseException as error:
        atexit.unregister(_leave)
        if config.device == "cpu":  # leaving NCCL would wait for the others
            _leave()
        if isinstance(error, UserError):
            raise type(error)(f"process {launch.rank + 1} of {launch.count}: {error}") from error
        raise


def own_device(config: TrainConfig) -> TrainConfig:
    """The configuration for this process, with the CUDA device that is its own on this host.

    Raises ConfigError where there is no such device.
    """
    if config.device == "cpu":
        return config
    if not torch.cuda.is_available():
        raise ConfigError('train.device is "cuda", but PyTorch finds no CUDA device: use "cpu"')
    launch = launched()
    if launch.count == 1:
        return config
    devices = torch.cuda.device_count()
    if launch.local_rank >= devices:
        raise ConfigError(
            f"process {launch.local_rank + 1} on this host has no CUDA device of its own: "
            f"start as many processes as there are devices, {devices}"
        )
    torch.cuda.set_device(launch.local_rank)
    return config.model_copy(update={"device": f"cuda:{launch.local_rank}"})


def _check_parts(config: TrainConfig, launch: Launch) -> None:
    parts = config.workers * config.accumulate * launch.count
    if config.batch_size % parts or config.batch_size < 2 * parts:
        raise ConfigError(
            f"train.batch_size {config.batch_size} must be a multiple of {launch.count} processes times "
            f"workers {config.workers} times accumulate {config.accumulate}, with at least 2 images for each"
        )


def _join(config: TrainConfig, launch: Launch) -> None:
    backend = "gloo" if config.device == "cpu" else "cpu:gloo,cuda:nccl"
    try:
        distributed.init_process_group(
            backend, rank=launch.rank, world_size=launch.count, timeout=timedelta(seconds=config.timeout)
        )
    except (RuntimeError, ValueError) as error:  # torch's DistError is a RuntimeError
        raise LostProcessError(
            f"process {launch.rank + 1} of {launch.count} could not join the others within train.timeout "
            f"{config.timeout:g} s ({_first_sentence(error)}): start all by torchrun or accelerate launch"
        ) from error


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


@contextmanager
def _others() -> Iterator[None]:
    """Turn what the backends raise into one line."""
    try:
        yield
    except RuntimeError as error:
        raise LostProcessError(
            "another process of the training failed or did not answer, see its output "
            f"({_first_sentence(error)})"
        ) from error


def _sum(tensors: Sequence[Tensor]) -> None:
    with torch.no_grad(), _others():
        flat = [torch.cat([tensor.reshape(-1) for tensor in bucket]) for bucket in _buckets(tensors)]
        pending: list[Any] = [distributed.all_reduce(values, async_op=True) for values in flat]
        for bucket, values, work in zip(_buckets(tensors), flat, pending, strict=True):
            work.wait()
            first = 0
            for tensor in bucket:
                tensor.copy_(values[first : first + tensor.numel()].view(tensor.shape))
                first += tensor.numel()


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in order, in groups of one type on one device that are not too large to copy."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        like = bucket and (bucket[0].dtype, bucket[0].device) == (tensor.dtype, tensor.device)
        if bucket and not (like and sum(t.numel() for t in bucket) + tensor.numel() <= _BUCKET):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


def _first_sentence(error: BaseException) -> str:
    """Of what a backend says, without the place in its source that it begins with."""
    lines = re.sub(r"^\[[^]]*\.\w+:\d+\] *", "", str(error).strip()).splitlines()
    return lines[0].partition(". ")[0] if lines else type(error).__name__
