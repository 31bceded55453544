"""BatchNorm statistics from data, for networks whose running statistics belong to others as well."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def reestimate_batchnorm(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set running mean and variance of every BatchNorm2d to averages over `batches`, float [N, C, H, W].

    Each layer normalises by the statistics of the batch meanwhile; batch means and biased batch variances
    are averaged, weighted by N (Cai et al., ICLR 2022, code). Leaves the network in eval mode. Raises
    ValueError without batches.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    sums = {norm: [torch.zeros_like(s, dtype=torch.float64) for s in norm_statistics(norm)] for norm in norms}

    def collect(norm: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        images = inputs[0].shape[0]
        samples = inputs[0].numel() // inputs[0].shape[1]
        mean, variance = norm_statistics(norm)
        sums[norm][0] += images * mean
        sums[norm][1] += images * variance.double() * ((samples - 1) / samples)

    hooks = [norm.register_forward_hook(collect) for norm in norms]
    network.train()
    for norm in norms:
        norm.momentum = 1.0  # the running statistics become those of the batch
    total = 0
    for batch in batches:
        network(batch)
        total += batch.shape[0]
    if not total:
        raise ValueError("re-estimating BatchNorm statistics needs at least one batch")
    for norm, momentum, hook in zip(norms, momenta, hooks, strict=True):
        norm.momentum = momentum
        hook.remove()
        for statistic, weighted in zip(norm_statistics(norm), sums[norm], strict=True):
            statistic.copy_(weighted / total)
    network.eval()


def norm_statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Running mean and variance of a layer that tracks them."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var
