"""What every target has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tools.config import TargetName
from tools.link.client import Link
from tools.results import Unit


@dataclass(frozen=True)
class Target:
    """A running image.

    url: any pyserial URL; unit: what the image's counter counts there; symbol: names the function at an
    address, None where the target has none of the image's symbols.
    """

    name: TargetName
    url: str
    unit: Unit
    baud: int
    symbol: Callable[[int], str | None] | None = field(default=None)

    def link(self, timeout: float = 1.0) -> Link:
        """Open a link; the caller closes it.

        Raises:
            NoBoardError: the port is not there.
            LinkError: the port is in use.
        """
        return Link(self.url, baud=self.baud, timeout=timeout, symbol=self.symbol)
