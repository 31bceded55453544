"""A moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

AVERAGE = "average"
"""Where the optimizer's state of a tensor holds its average."""


class WeightAverage:
    """Exponential moving average of parameters and BatchNorm statistics; decay 0 averages nothing.

    The decay rises to its value as (1 + step) / (10 + step), so that the first weights are soon forgotten.
    The averages are kept in the optimizer's state, from where checkpoints save them, and where they follow
    whatever a method does to its channels.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, decay: float) -> None:
        self._optimizer = optimizer
        self._decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take the weights after a step, counted from 0 over all epochs, into the average."""
        if not self._decay:
            return
        tensors, averages = [], []
        for tensor in averaged_tensors(network):
            state = self._optimizer.state[tensor]
            if AVERAGE in state:
                tensors.append(tensor)
                averages.append(state[AVERAGE])
            elif state or not tensor.requires_grad:  # Adam begins a state only where it is empty
                state[AVERAGE] = tensor.detach().clone()
        decay = min(self._decay, (1 + step) / (10 + step))
        if tensors:
            torch._foreach_lerp_(averages, tensors, 1 - decay)

    def statistics(self, network: nn.Module) -> Iterator[Tensor]:
        """The BatchNorm statistics of `network`, and their averages."""
        for tensor in norm_buffers(network):
            yield tensor
            if AVERAGE in self._optimizer.state.get(tensor, {}):
                yield self._optimizer.state[tensor][AVERAGE]


@contextmanager
def averaged(network: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Within, the network has its average weights, as far as there are any."""
    tensors = [t for t in averaged_tensors(network) if AVERAGE in optimizer.state.get(t, {})]
    own = [tensor.detach().clone() for tensor in tensors]
    _copy(tensors, [optimizer.state[tensor][AVERAGE] for tensor in tensors])
    try:
        yield
    finally:
        _copy(tensors, own)


def averaged_tensors(network: nn.Module) -> Iterator[Tensor]:
    """Parameters, and the running statistics of BatchNorms."""
    yield from network.parameters()
    yield from norm_buffers(network)


def norm_buffers(network: nn.Module) -> Iterator[Tensor]:
    """Running means and variances of all BatchNorms."""
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            for statistic in (module.running_mean, module.running_var):
                if statistic is not None:
                    yield statistic


@torch.no_grad()
def _copy(tensors: list[Tensor], values: list[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)
