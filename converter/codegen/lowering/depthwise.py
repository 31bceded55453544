"""Depthwise convolutions channel by channel: see firmware/kernels/depthwise.h.

Dilated ones become plain ones whose kernels have zeros between the taps.
"""

from __future__ import annotations

import numpy as np

from converter.codegen.lowering.case import Array, LayerCode, Names
from converter.codegen.lowering.convolution import Convolution, Integers, Strategy, undilated
from converter.codegen.lowering.fast_scale import fast_convolution

# Bytes of int16 rows that are held at once; more rows than these cost memory and save little.
_PLANE_BYTES = 1536


def _fits(conv: Convolution) -> bool:
    stride = conv.window.strides[1]
    return conv.depth == 1 and (stride == 1 or stride % 2 == 0) and fast_convolution(conv) is not None


def _span(conv: Convolution) -> int:
    """Words of a row that two outputs read."""
    width = conv.window.kernel[1]
    return width // 2 + 1 if conv.window.strides[1] == 1 else (width + 1) // 2


def _pitch(conv: Convolution) -> int:
    window = conv.window
    return ((window.size_out[1] - 1) * window.strides[1] + 2 * _span(conv) + 1) // 2 * 2


def _rows(conv: Convolution) -> int:
    """Rows of outputs that are computed from one load of the plane."""
    window = conv.window
    held = _PLANE_BYTES // (2 * _pitch(conv))
    most = max((held - window.kernel[0]) // window.strides[0] + 1, 1)
    loads = -(-window.size_out[0] // most)
    return -(-window.size_out[0] // loads)


def _in_registers(conv: Convolution) -> bool:
    return conv.window.kernel == (3, 3) and conv.window.strides[1] <= 2


def _scratch(conv: Convolution) -> int:
    conv = undilated(conv)
    window = conv.window
    plane = 2 * ((_rows(conv) - 1) * window.strides[0] + window.kernel[0]) * _pitch(conv)
    if _in_registers(conv):
        return plane
    phases = 2 if window.strides[1] == 1 else 1
    return plane + 4 * conv.per_group * window.kernel[0] * _span(conv) * phases


def _in_place(conv: Convolution) -> bool:
    conv = undilated(conv)
    window, rows = conv.window, _rows(conv)
    if conv.per_group != 1 or window.batches != 1:
        return False
    for written in range(rows, window.size_out[0], rows):
        read = (written - 1) * window.strides[0] - window.padding[0] + window.kernel[0]
        if read < window.size_in[0] and written * window.size_out[1] > read * window.size_in[1]:
            return False
    return True


def _register_taps(conv: Convolution) -> Integers:
    """The doubled taps of each channel for `Taps3x3`: uint32 [channels, 6]."""
    pairs = 2 * conv.weights[:, :, [0, 1, 1, 2], 0].reshape(conv.channels, -1, 2) & 0xFFFF
    words: Integers = pairs[..., 0] | (pairs[..., 1] << 16)
    return words


def _packed_taps(conv: Convolution, left: Integers) -> Integers:
    """The stream of each channel's taps for `AnyTaps`: uint32 [channels, words]; left: shifts of the sums."""
    length = -(-_span(conv) // 2) * 4
    rows = np.pad(conv.weights[..., 0], ((0, 0), (0, 0), (0, length - conv.window.kernel[1]))) & 0xFF
    taps = rows.reshape(conv.channels, -1, 4)
    words = taps[..., 0] | taps[..., 2] << 8 | taps[..., 1] << 16 | taps[..., 3] << 24
    stream: Integers = np.concatenate([1 + left[:, None], words], axis=1)
    return stream


def _emit(conv: Convolution, names: Names) -> LayerCode:
    conv = undilated(conv)
    fast = fast_convolution(conv)
    assert fast is not None
    shifted = fast.with_shifted_weights()
    if _in_registers(conv):
        bias, taps = 2 * shifted.conv.folded_bias, _register_taps(shifted.conv)
    else:
        left = np.array([scale.left for scale in fast.scales])
        bias, taps = fast.conv.folded_bias, _packed_taps(fast.conv, left)
    scales = np.array([scale.words for scale in shifted.scales])
    stream = np.concatenate([bias[:, None], scales, taps], axis=1).reshape(-1) & 0xFFFFFFFF
    array = Array("Stream", "uint32_t", [f"0x{word:X}u" for word in stream], 4 * len(stream))
    declaration = f"constexpr kernels::Window {names.prefix}Window = {conv.window.cpp()};"
    kernel = (
        f"kernels::Depthwise<{names.prefix}Window, {conv.channels_in}, {conv.per_group}, {_rows(conv)}, "
        f"{shifted.clamping}>"
    )
    pointers = f"{names.scratch}, {names.inputs[0]}, {names.output}"
    call = f"{kernel}::run({names.prefix}Stream, {conv.zero_point}, {pointers});"
    return LayerCode(("kernels/depthwise.h",), (call,), (array,), (declaration,))


DEPTHWISE = Strategy(_fits, _scratch, _in_place, _emit)
