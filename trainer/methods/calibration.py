"""BatchNorm statistics from data, for networks whose running statistics belong to others as well."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def reestimate_batchnorm(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set running mean and variance of every BatchNorm to averages over `batches`, float [N, C, H, W].

    Each one normalises by the statistics of the batch meanwhile, all else computes as in eval mode; batch
    means and biased batch variances are averaged, weighted by N (Cai et al., ICLR 2022, code). A BatchNorm
    that computes nothing keeps its statistics. Leaves the network in eval mode. Raises ValueError without
    batches.
    """
    norms = [norm for norm in network.modules() if isinstance(norm, _BatchNorm) and norm.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    sums = {norm: [torch.zeros_like(s, dtype=torch.float64) for s in norm_statistics(norm)] for norm in norms}
    images = dict.fromkeys(norms, 0)

    def collect(norm: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        assert isinstance(norm, _BatchNorm)
        count = inputs[0].shape[0]
        samples = inputs[0].numel() // inputs[0].shape[1]
        mean, variance = norm_statistics(norm)
        sums[norm][0] += count * mean
        sums[norm][1] += count * variance.double() * ((samples - 1) / samples)
        images[norm] += count

    hooks = [norm.register_forward_hook(collect) for norm in norms]
    network.eval()
    for norm in norms:
        norm.train()
        norm.momentum = 1.0  # the running statistics become those of the batch
    empty = True
    for batch in batches:
        network(batch)
        empty = False
    if empty:
        raise ValueError("re-estimating BatchNorm statistics needs at least one batch")
    for norm, momentum, hook in zip(norms, momenta, hooks, strict=True):
        norm.momentum = momentum
        hook.remove()
        if images[norm]:
            for statistic, weighted in zip(norm_statistics(norm), sums[norm], strict=True):
                statistic.copy_(weighted / images[norm])
    network.eval()


def norm_statistics(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Running mean and variance of a layer that tracks them."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var
