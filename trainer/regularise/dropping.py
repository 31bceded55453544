"""Dropout and DropBlock as hooks: they change no parameter, name or class of the network they hang on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.seeds import derive_seed

Dropout = nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d

_TINY = 1e-12  # where all is dropped


@dataclass
class Draws:
    """What all hooks of a network share: how far DropBlock has risen, 0..1, and random numbers.

    With equal seeds, the same calls give the same numbers.
    """

    rise: float = 0.0
    _seed: int = 0
    _calls: int = 0

    def restart(self, seed: int) -> None:
        """Begin the numbers of a seed."""
        self._seed, self._calls = seed, 0

    def uniform(self, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """New numbers from 0..1, float32, drawn on the device."""
        self._calls += 1
        generator = torch.Generator(device).manual_seed(derive_seed(self._seed, "drop", self._calls))
        return torch.rand(shape, generator=generator, device=device)


class DropoutBefore:
    """A forward pre-hook: in training mode, drops values of the input, float of any shape.

    What stays is scaled so that the expectation does (Srivastava et al., JMLR 2014).
    """

    def __init__(self, probability: float, draws: Draws) -> None:
        self._probability = probability
        self._draws = draws

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The inputs for the module."""
        if not module.training:
            return inputs
        x, *others = inputs
        return (_dropped(x, tuple(x.shape), self._probability, self._draws), *others)


class DropoutInstead:
    """A forward hook of torch's own dropout layers: the same, by the numbers of `draws`.

    A layer of `nn.Dropout` drops values, one of `nn.Dropout1d` to `nn.Dropout3d` whole channels.
    """

    def __init__(self, draws: Draws) -> None:
        self._draws = draws

    def __call__(self, module: Dropout, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """The output in the place of the layer's own."""
        if not module.training:
            return output
        (x,) = inputs
        shape = x.shape if isinstance(module, nn.Dropout) else (*x.shape[:2], *(1 for _ in x.shape[2:]))
        return _dropped(x, tuple(shape), module.p, self._draws)


class DropBlockBehind:
    """A forward hook: in training mode, drops squares of `size` pixels of a map, float [N, C, H, W].

    About `probability` of all values are dropped, in each channel others. What stays is scaled by the share
    that does (Ghiasi et al., NeurIPS 2018, algorithm 1).
    """

    def __init__(self, probability: float, size: int, draws: Draws) -> None:
        self._probability = probability
        self._size = size
        self._draws = draws

    def __call__(self, module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """The output in the place of the module's own."""
        probability = self._probability * self._draws.rise
        if not module.training or not probability:
            return output
        kept = kept_blocks(output, probability, self._size, self._draws)
        scale = kept.numel() / kept.sum().clamp(min=1)
        return output * (kept * scale).to(output.dtype)


def _dropped(x: Tensor, shape: tuple[int, ...], probability: float, draws: Draws) -> Tensor:
    """`x` with values of a mask of `shape` dropped; what stays is scaled so that the expectation does."""
    keep = 1.0 - probability
    kept = draws.uniform(shape, x.device) < keep
    return x * (kept / max(keep, _TINY)).to(x.dtype)


def kept_blocks(output: Tensor, probability: float, size: int, draws: Draws) -> Tensor:
    """Which values of a map [N, C, H, W] stay: bool, False in squares of `size` pixels.

    Squares are no larger than the map and lie within it, in each place with the same probability.
    """
    count, channels, height, width = output.shape
    rows, columns = min(size, height), min(size, width)
    places = (height - rows + 1, width - columns + 1)
    gamma = probability * (height * width) / (rows * columns * places[0] * places[1])
    corners = draws.uniform((count, channels, *places), output.device) < gamma
    padded = functional.pad(corners.float(), (columns - 1, columns - 1, rows - 1, rows - 1))
    return functional.max_pool2d(padded, (rows, columns), stride=1) == 0
