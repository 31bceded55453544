"""What a training asks of torch as a whole, and gives back afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trainer.config import TrainConfig


@contextmanager
def torch_settings(config: TrainConfig) -> Iterator[None]:
    """Use the wanted number of threads; restore it and torch's random state afterwards.

    On a CUDA device, equal seeds give equal weights on equal devices: deterministic algorithms are chosen
    where there are any, and float32 is float32, not TF32.
    """
    threads = torch.get_num_threads()
    devices = [torch.device(config.device)] if config.device != "cpu" else []
    with torch.random.fork_rng(devices):
        torch.set_num_threads(config.threads or threads)
        try:
            if devices:
                with _deterministic_cuda():
                    yield
            else:
                yield
        finally:
            torch.set_num_threads(threads)


@contextmanager
def _deterministic_cuda() -> Iterator[None]:
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    deterministic = torch.are_deterministic_algorithms_enabled()
    warned_only = torch.is_deterministic_algorithms_warn_only_enabled()
    matmul_tf32 = torch.backends.cuda.matmul.allow_tf32
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = matmul_tf32
        torch.use_deterministic_algorithms(deterministic, warn_only=warned_only)
