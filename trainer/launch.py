"""Which of several processes this one is. Imports no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass

from common.errors import ConfigError


@dataclass(frozen=True)
class Launch:
    """This process among all `count`: its number in all (`rank`) and on its host (`local_rank`), from 0."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def main(self) -> bool:
        """Whether this is the process that writes files and speaks for all."""
        return self.rank == 0


def launched() -> Launch:
    """What torchrun or accelerate launch put into the environment; a single process without them.

    Raises ConfigError where that makes no sense.
    """
    count = _number("WORLD_SIZE", 1)
    if count <= 1:
        return Launch()
    rank = _number("RANK", -1)
    if not 0 <= rank < count:
        raise ConfigError(
            f"the environment has WORLD_SIZE={count} but RANK={os.environ.get('RANK', '')!r}: "
            "start the processes by torchrun or accelerate launch, or unset WORLD_SIZE"
        )
    return Launch(rank, count, _number("LOCAL_RANK", 0))


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    if not text:
        return default
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"the environment has {name}={text!r}, which is no whole number") from None
