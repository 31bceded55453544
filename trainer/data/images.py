"""Encoded images (JPEG, PNG, WebP, ...) decoded to arrays by Pillow."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from common.errors import ConfigError

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
)

Box = tuple[float, float, float, float]

# What Pillow raises on damaged bytes.
_DECODE_ERRORS = (
    UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError, TypeError,
    EOFError, IndexError, OverflowError, MemoryError, AttributeError, KeyError, NotImplementedError,
)  # fmt: skip


class EncodedImage:
    """An image that is decoded no larger than it is needed. `origin` names it in errors."""

    def __init__(self, data: bytes, origin: str) -> None:
        self._origin = origin
        try:
            self._image = Image.open(io.BytesIO(data))
        except _DECODE_ERRORS as error:
            raise self._damaged(error) from error

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self._image.size

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
        width, height = image.size
        left, top, right, bottom = box or (0, 0, width, height)
        if size is not None:
            shrink = min((right - left) / size[1], (bottom - top) / size[0])
            if shrink > 2:
                image.draft(mode, (int(2 * width / shrink), int(2 * height / shrink)))
        drafted = image.width / width, image.height / height
        decoded = image.convert(mode)
        if size is not None:
            window = (left * drafted[0], top * drafted[1], right * drafted[0], bottom * drafted[1])
            decoded = decoded.resize((size[1], size[0]), Image.Resampling.BILINEAR, window)
        array = np.asarray(decoded)
        return array[..., np.newaxis] if array.ndim == 2 else array

    def _damaged(self, error: BaseException) -> ConfigError:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = "no known format"
        return ConfigError(f"{self._origin}: damaged image ({reason}): replace or remove it")
