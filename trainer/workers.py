"""Several threads that share the steps of a training method."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

import torch

from trainer.data.batches import Batch
from trainer.methods import Method, StepResult
from trainer.objectives import Objective


class Workers:
    """Lets `count` threads do each step on equal parts of the batch, as data-parallel processes would.

    Each thread has a copy of the method whose parameters are the method's own, with gradients and
    BatchNorm statistics of their own: layers normalise by the statistics of a part. The gradients are
    added in a fixed order, so equal inputs give equal weights. On small networks this uses a CPU better
    than threads inside of operators do, and bears with other programs on the same cores.
    """

    def __init__(self, method: Method, count: int) -> None:
        self._method = method
        self._replicas: list[Method] = []
        self._count = count
        self._pool = ThreadPoolExecutor(
            max(count - 1, 1), initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()

    def start_epoch(self) -> None:
        """Copy the method anew; needed whenever more than the values of its parameters has changed."""
        self._replicas = [copy.deepcopy(self._method) for _ in range(self._count - 1)]
        for replica in self._replicas:
            for own, shared in zip(
                replica.network.parameters(), self._method.network.parameters(), strict=True
            ):
                own.data = shared.data

    def backward(self, batch: Batch, objective: Objective, epoch: int, step: int) -> StepResult:
        """Set the gradients of a whole batch."""
        methods = [self._method, *self._replicas]
        tasks = list(zip(methods, batch.split(self._count), strict=True))

        def work(method: Method, part: Batch) -> StepResult:
            method.network.zero_grad()
            return method.backward(part.images, objective.for_part(part), epoch, step)

        others = [self._pool.submit(work, *task) for task in tasks[1:]]
        results = [work(*tasks[0]), *(other.result() for other in others)]
        for replica in self._replicas:
            for total, part in zip(
                self._method.network.parameters(), replica.network.parameters(), strict=True
            ):
                if total.grad is not None and part.grad is not None:
                    total.grad += part.grad
        return StepResult(
            torch.stack([result.loss for result in results]).sum(),
            torch.cat([result.outputs for result in results]),
        )
