"""How many channels images of several kinds are read with."""

from __future__ import annotations

import logging

from trainer.data.folders import run_threads
from trainer.data.records import Records

_log = logging.getLogger(__name__)

_LOOKED_AT = 2_000


def choose_channels(records: Records) -> int:
    """1 where all images are grey, else 3; of many, 2,000 spread over them are looked at, none is decoded."""
    grey = list(run_threads(lambda index: records.open(index).grey, records.spread(_LOOKED_AT).tolist()))
    if all(grey):
        return 1
    if any(grey):
        _log.info("%d of %d training images are grey: all are read as RGB", sum(grey), len(grey))
    return 3
