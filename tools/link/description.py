"""What an image says of itself in HELLO (docs/protocol.md)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np

from common.errors import LinkError

_DTYPES = ("int8", "uint8", "int16", "int32", "int64", "float32", "bool")


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of the image: dtype, shape with batch, real = scale * (q - zero_point)."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    scale: float
    zero_point: int

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @classmethod
    def parse(cls, text: str) -> TensorSpec:
        """From `dtype:shape:scale:zero_point`, e.g. `int8:1x28x28x1:0.0039:-128`.

        Raises:
            ValueError: damaged text or an unknown dtype.
        """
        dtype, shape, scale, zero_point = text.split(":")
        if dtype not in _DTYPES:
            raise ValueError(f"unknown dtype '{dtype}'")
        dimensions = tuple(int(size) for size in shape.split("x"))
        if min(dimensions) < 1:
            raise ValueError(f"shape '{shape}'")
        return cls(np.dtype(dtype), dimensions, float(scale), int(zero_point))


@dataclass(frozen=True)
class Description:
    """The self-description of an image; clock in Hz, arena in bytes.

    counter: what `cycles` in a reply counts. entries: every line as key and value, also those not named here.
    """

    protocol: int
    board: str
    chip: str
    engine: str
    model: str
    model_sha256: str
    git: str
    compiler: str
    flags: str
    clock_hz: int
    counter: Literal["cycles", "nanoseconds"]
    arena_bytes: int
    layers: int
    ops: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    entries: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> Description:
        """From HELLO's lines `key=value`.

        Raises:
            LinkError: a key is missing, or its value makes no sense.
        """
        entries = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        try:
            counter = entries["counter"]
            if counter not in ("cycles", "nanoseconds"):
                raise ValueError(f"counter '{counter}'")
            return cls(
                protocol=int(entries["protocol"]),
                board=entries["board"],
                chip=entries["chip"],
                engine=entries["engine"],
                model=entries["model"],
                model_sha256=entries["model_sha256"],
                git=entries["git"],
                compiler=entries["compiler"],
                flags=entries["flags"],
                clock_hz=int(entries["clock_hz"]),
                counter=cast(Literal["cycles", "nanoseconds"], counter),
                arena_bytes=int(entries["arena_bytes"]),
                layers=int(entries["layers"]),
                ops=tuple(op for op in entries["ops"].split(",") if op),
                inputs=_specs(entries, "input"),
                outputs=_specs(entries, "output"),
                entries=entries,
            )
        except KeyError as error:
            raise LinkError(f"the image's self-description lacks {error}: rebuild and flash it") from error
        except ValueError as error:
            raise LinkError(f"the image's self-description is damaged: {error}") from error


def _specs(entries: Mapping[str, str], prefix: str) -> tuple[TensorSpec, ...]:
    count = sum(1 for key in entries if re.fullmatch(prefix + r"\d+", key))
    return tuple(TensorSpec.parse(entries[f"{prefix}{index}"]) for index in range(count))
