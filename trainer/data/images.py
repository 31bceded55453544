"""Encoded images (JPEG, PNG, WebP, ...) decoded to arrays by Pillow."""

from __future__ import annotations

import io
import struct
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from common.errors import ConfigError, first_line

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
)

Box = tuple[float, float, float, float]

# What Pillow raises on damaged bytes.
_DECODE_ERRORS = (
    UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError, TypeError,
    EOFError, IndexError, OverflowError, MemoryError, AttributeError, KeyError, NotImplementedError,
)  # fmt: skip


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = tuple(_TURNS[orientation] for orientation in (5, 6, 7, 8))


class EncodedImage:
    """An image that is decoded no larger than it is needed, turned as its EXIF data say.

    `origin` names it in errors. Of an open file, what is needed is read.
    """

    def __init__(self, data: bytes | BinaryIO, origin: str) -> None:
        self._origin = origin
        try:
            self._image = Image.open(io.BytesIO(data) if isinstance(data, bytes) else data)
        except _DECODE_ERRORS as error:
            raise self._damaged(error) from error
        self._stored = self._image.size

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels, as it is shown."""
        width, height = self._stored
        return (height, width) if self._turn in _SIDEWAYS else (width, height)

    @property
    def grey(self) -> bool:
        """Whether it has no colours."""
        return self._image.mode in ("1", "L", "LA")

    def decode(
        self, channels: int, size: tuple[int, int] | None = None, box: Box | None = None
    ) -> npt.NDArray[np.uint8]:
        """Pixels uint8 [H, W, channels] of `box` (left, top, right, bottom), resized to `size` (H, W).

        None takes all of the image, and its own size. Resizing is bilinear, antialiased where it shrinks; a
        JPEG that shrinks to less than half is decoded at a fraction of its size. Raises ConfigError for a
        damaged image.
        """
        try:
            return self._decode("L" if channels == 1 else "RGB", size, box)
        except _DECODE_ERRORS as error:
            raise self._damaged(error) from error

    def _decode(self, mode: str, size: tuple[int, int] | None, box: Box | None) -> npt.NDArray[np.uint8]:
        image = self._image
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"pixels of mode {image.mode}, not of 8 bits")
        width, height = self.size
        left, top, right, bottom = box or (0, 0, width, height)
        if size is not None:
            shrink = min((right - left) / size[1], (bottom - top) / size[0])
            if shrink > 2:
                image.draft(mode, (int(2 * self._stored[0] / shrink), int(2 * self._stored[1] / shrink)))
        decoded = image.convert(mode)
        if self._turn is not None:
            decoded = decoded.transpose(self._turn)
        if size is not None:
            across, down = decoded.width / width, decoded.height / height
            window = (left * across, top * down, right * across, bottom * down)
            decoded = decoded.resize((size[1], size[0]), Image.Resampling.BILINEAR, window)
        array = np.asarray(decoded)
        return array[..., np.newaxis] if array.ndim == 2 else array

    @cached_property
    def _turn(self) -> Image.Transpose | None:
        """What turns the stored pixels as they are shown; nothing where the EXIF data are damaged."""
        if self._image.format == "TIFF":  # Pillow has turned it
            return None
        try:
            return _TURNS.get(self._image.getexif().get(ExifTags.Base.Orientation, 1))
        except (*_DECODE_ERRORS, struct.error):
            return None

    def _damaged(self, error: BaseException) -> ConfigError:
        reason = "no known format" if isinstance(error, UnidentifiedImageError) else first_line(error)
        return ConfigError(f"{self._origin}: damaged image ({reason}): replace or remove it")


def shown_size(path: Path) -> tuple[int, int]:
    """(width, height) of the image in a file; ConfigError where it is damaged, OSError where unreadable."""
    with path.open("rb") as file:
        return EncodedImage(file, str(path)).size
