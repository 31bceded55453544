"""What every target has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tools.config import TargetName
from tools.link.client import Link
from tools.results import Unit
from tools.virtual_board.snapshot import Snapshot


class Observer(Protocol):
    """Sees what a chip does from outside."""

    def snapshot(self) -> Snapshot:
        """What was counted and noticed so far."""

    def reset_counters(self) -> None:
        """Start the estimate of cycles anew."""


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
        link.run_again()
        after = self.observer.snapshot()
        # The few frames around the inference count for what they are: a small part of it.
        return round(after.cycles_estimate * count / (after.instructions - before))

    def _diagnose(self) -> str | None:
        fault = self.observer.snapshot().fault if self.observer else None
        if fault is None:
            return None
        what = f"{fault.kind.value}: {fault.detail}" if fault.detail else fault.kind.value
        return f"the virtual board saw {what}, at {fault.function}, called from {fault.caller}"
