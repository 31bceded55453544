"""Depthwise convolutions channel by channel: see firmware/kernels/depthwise.h."""

from __future__ import annotations

import numpy as np

from converter.codegen.lowering.case import Array, LayerCode, Names
from converter.codegen.lowering.convolution import Convolution, Integers, Strategy
from converter.codegen.lowering.fast_scale import clamping, fast_convolution

# Bytes of int16 rows that are held at once; more rows than these cost memory and save little.
_PLANE_BYTES = 1536


def _fits(conv: Convolution) -> bool:
    window, stride = conv.window, conv.window.strides[1]
    plain_window = window.batches == 1 and window.dilations == (1, 1) and (stride == 1 or stride % 2 == 0)
    return conv.depth == 1 and plain_window and fast_convolution(conv, prescale=True) is not None


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


def _scratch(conv: Convolution) -> int:
    window = conv.window
    return 2 * ((_rows(conv) - 1) * window.strides[0] + window.kernel[0]) * _pitch(conv)


def _in_place(conv: Convolution) -> bool:
    window, rows = conv.window, _rows(conv)
    if conv.per_group != 1:
        return False
    for written in range(rows, window.size_out[0], rows):
        read = (written - 1) * window.strides[0] - window.padding[0] + window.kernel[0]
        if read < window.size_in[0] and written * window.size_out[1] > read * window.size_in[1]:
            return False
    return True


def _taps(conv: Convolution) -> Integers:
    """The taps of each channel as pairs [channels, words, 2]."""
    channels, height, width = conv.weights.shape[:3]
    weights = conv.weights[..., 0]
    if (height, width) == (3, 3) and conv.window.strides[1] <= 2:
        return weights[:, :, [0, 1, 1, 2]].reshape(channels, -1, 2)
    length = 2 * _span(conv)
    first = np.pad(weights, ((0, 0), (0, 0), (0, length - width)))
    if conv.window.strides[1] != 1:
        return first.reshape(channels, -1, 2)
    second = np.pad(weights, ((0, 0), (0, 0), (1, length - width - 1)))
    phases = np.stack([first.reshape(channels, height, -1, 2), second.reshape(channels, height, -1, 2)], 3)
    taps: Integers = phases.reshape(channels, -1, 2)
    return taps


def _emit(conv: Convolution, names: Names) -> LayerCode:
    fast = fast_convolution(conv, prescale=True)
    assert fast is not None
    taps = 2 * _taps(fast.conv) & 0xFFFF
    doubled_bias = 2 * fast.conv.folded_bias[:, None]
    header = np.concatenate([doubled_bias, np.array(fast.scales, dtype=np.int64)], axis=1)
    stream = np.concatenate([header, taps[..., 0] | (taps[..., 1] << 16)], axis=1).reshape(-1) & 0xFFFFFFFF
    array = Array("Stream", "uint32_t", [f"0x{word:X}u" for word in stream], 4 * len(stream))
    declaration = f"constexpr kernels::Window {names.prefix}Window = {conv.window.cpp()};"
    kernel = (
        f"kernels::Depthwise<{names.prefix}Window, {conv.channels_in}, {conv.per_group}, {_rows(conv)}, "
        f"{clamping(conv.bounds)}>"
    )
    call = (
        f"{kernel}::run({names.prefix}Stream, {conv.zero_point}, "
        f"reinterpret_cast<int16_t*>({names.scratch}), {names.inputs[0]}, {names.output});"
    )
    return LayerCode(("kernels/depthwise.h",), (call,), (array,), (declaration,))


DEPTHWISE = Strategy(_fits, _scratch, _in_place, _emit)
