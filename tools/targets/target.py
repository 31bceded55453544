"""What every target has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tools.config import TargetName
from tools.link.client import Link
from tools.results import Unit
from tools.virtual_board.snapshot import LayerCounts, Snapshot


class Observer(Protocol):
    """Sees what a chip does from outside."""

    def snapshot(self) -> Snapshot:
        """What was counted and noticed so far."""

    def reset_counters(self) -> None:
        """Start the estimate of cycles anew."""

    def count_layers(self) -> None:
        """Count the layers of the model apart from now on."""

    def layer_counts(self) -> dict[int, LayerCounts]:
        """What each layer executed since then, by its index."""


@dataclass(frozen=True)
class Target:
    """A running image.

    url: any pyserial URL; unit: what the image's counter counts there; symbol: names the function at an
    address, None where the target has none of the image's symbols; observer: of the virtual board only.
    """

    name: TargetName
    url: str
    unit: Unit
    baud: int
    symbol: Callable[[int], str | None] | None = None
    observer: Observer | None = None

    def link(self, timeout: float = 1.0) -> Link:
        """Open a link; the caller closes it.

        Raises:
            NoBoardError: the port is not there.
            LinkError: the port is in use.
        """
        return Link(self.url, baud=self.baud, timeout=timeout, symbol=self.symbol, diagnose=self._diagnose)

    def estimate_cycles(self, link: Link, count: int) -> int | None:
        """Estimate the cycles of an inference of `count` instructions; None where nothing can tell."""
        if self.observer is None:
            return None
        self.observer.reset_counters()
        before = self.observer.snapshot().instructions
        if layers := self.count_layers(link.run_again).values():
            instructions = sum(layer.instructions for layer in layers)
            cycles = sum(layer.cycles_estimate for layer in layers)
        else:
            after = self.observer.snapshot()
            instructions, cycles = after.instructions - before, after.cycles_estimate
        # What is executed beside the layers is a small part: it counts like the rest.
        return round(cycles * count / instructions)

    def count_layers(self, infer: Callable[[], object]) -> dict[int, LayerCounts]:
        """Count each layer of the inference that `infer` starts, by its index; {} where nothing can tell."""
        if self.observer is None:
            return {}
        self.observer.count_layers()
        try:
            infer()
        finally:
            layers = self.observer.layer_counts()
        return layers

    def _diagnose(self) -> str | None:
        fault = self.observer.snapshot().fault if self.observer else None
        if fault is None:
            return None
        what = f"{fault.kind.value}: {fault.detail}" if fault.detail else fault.kind.value
        return f"the virtual board saw {what}, at {fault.function}, called from {fault.caller}"
