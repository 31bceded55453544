"""Several threads that share the steps of a training method."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

import torch

from trainer.average import norm_buffers
from trainer.data.batches import Batch
from trainer.methods import Method, StepResult
from trainer.objectives import Objective
from trainer.precision import Precision


class Workers:
    """Lets `count` threads do each step on equal parts of the batch, as data-parallel processes would.

    Each thread has a copy of the method whose parameters are the method's own, with gradients and
    BatchNorm statistics of their own: layers normalise by the statistics of a part. The gradients are
    added in a fixed order, so equal inputs give equal weights. On small networks this uses a CPU better
    than threads inside of operators do, and bears with other programs on the same cores.

    With `accumulate`, each thread computes so many smaller parts one after the other. With `compiled`, the
    networks are compiled by torch when they compute for the first time.
    """

    def __init__(
        self,
        method: Method,
        count: int,
        precision: Precision,
        *,
        accumulate: int = 1,
        compiled: bool = False,
    ) -> None:
        self._method = method
        self._replicas: list[Method] = []
        self._count = count
        self._precision = precision
        self._accumulate = accumulate
        self._compiled = compiled
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
        if self._compiled:
            for method in self._methods:
                if method.network._compiled_call_impl is None:  # copies are not compiled
                    method.network.compile()

    def backward(self, batch: Batch, objective: Objective, epoch: int, step: int) -> StepResult:
        """Set the gradients of a whole batch, times the precision's scale."""
        for method in self._methods:
            method.network.zero_grad()
        parts = batch.split(self._accumulate * self._count)
        scale = self._precision.scale

        def work(method: Method, part: Batch) -> StepResult:
            with self._precision.region():
                loss = self._precision.scaled(objective.for_part(part), scale)
                return method.backward(part.images, loss, epoch, step)

        results: list[StepResult] = []
        for start in range(0, len(parts), self._count):
            tasks = list(zip(self._methods, parts[start : start + self._count], strict=True))
            others = [self._pool.submit(work, *task) for task in tasks[1:]]
            results += [work(*tasks[0]), *(other.result() for other in others)]
        for replica in self._replicas:
            for total, part in zip(
                self._method.network.parameters(), replica.network.parameters(), strict=True
            ):
                if total.grad is not None and part.grad is not None:
                    total.grad += part.grad
        return StepResult(
            torch.stack([result.loss for result in results]).sum() / scale,
            torch.cat([result.outputs for result in results]),
        )

    @torch.no_grad()
    def average_statistics(self) -> None:
        """Give the method's network the mean of all threads' BatchNorm statistics."""
        for own, *others in zip(*(norm_buffers(method.network) for method in self._methods), strict=True):
            own.copy_(sum((other.double() for other in others), own.double()) / self._count)

    @property
    def _methods(self) -> list[Method]:
        return [self._method, *self._replicas]
