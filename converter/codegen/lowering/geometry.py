"""Geometry of windows that slide over NHWC data."""

from __future__ import annotations

from dataclasses import dataclass

from converter.codegen.lowering.case import braces
from converter.graph import Padding

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """A sliding window; pairs are (height, width); padding: implicit rows and columns before the data."""

    batches: int
    size_in: Pair
    size_out: Pair
    kernel: Pair
    strides: Pair
    dilations: Pair
    padding: Pair

    @staticmethod
    def of(
        shape_in: tuple[int, ...],
        shape_out: tuple[int, ...],
        kernel: Pair,
        *,
        strides: Pair,
        dilations: Pair = (1, 1),
        padding: Padding,
    ) -> Window:
        """The window that turns NHWC `shape_in` into `shape_out`."""
        before = [0, 0]
        if padding is Padding.SAME:
            for axis in range(2):
                reach = (kernel[axis] - 1) * dilations[axis] + 1
                total = (shape_out[1 + axis] - 1) * strides[axis] + reach - shape_in[1 + axis]
                before[axis] = max(total, 0) // 2
        return Window(
            shape_in[0],
            (shape_in[1], shape_in[2]),
            (shape_out[1], shape_out[2]),
            kernel,
            strides,
            dilations,
            (before[0], before[1]),
        )

    @staticmethod
    def pointwise(pixels: int) -> Window:
        """A 1x1 window over `pixels` pixels in one row."""
        return Window(1, (1, pixels), (1, pixels), (1, 1), (1, 1), (1, 1), (0, 0))

    @property
    def is_padded(self) -> bool:
        """Whether some window reaches beyond the data."""
        axes = zip(
            self.size_in, self.size_out, self.kernel, self.strides, self.dilations, self.padding, strict=True
        )
        return any(
            before > 0 or (out - 1) * stride - before + (kernel - 1) * dilation + 1 > size
            for size, out, kernel, stride, dilation, before in axes
        )

    def cpp(self) -> str:
        """A `kernels::Window` initialiser."""
        pairs = (self.size_in, self.size_out, self.kernel, self.strides, self.dilations, self.padding)
        return braces(self.batches, *(braces(*pair) for pair in pairs))
