"""Convolutions by `pair_matmul`: the weights of two output channels share 16-bit lanes.

See firmware/kernels/pair_matmul.h for the arithmetic and the layout of the stream.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from converter.codegen.lowering.case import Array, LayerCode, Names
from converter.codegen.lowering.convolution import Convolution, Integers, Strategy
from converter.codegen.lowering.fast_scale import FastScale, fast_convolution

BLOCK = 3  # kBlock of conv2d.h
_MAX_B = 1 << 23
_SXTB16_ORDER = [0, 2, 1, 3]


def round_up(value: int, multiple: int) -> int:
    """`value` or the next multiple above it."""
    return -(-value // multiple) * multiple


def has_fast_pairs(conv: Convolution) -> bool:
    """Whether `pair_matmul` computes the channels' sums exactly."""
    fast = fast_convolution(conv)
    return fast is not None and bool((fast.conv.weights >= -127).all())


def is_deep(conv: Convolution, *, first: int = 1) -> bool:
    """Whether sums of every other channel may leave the 24 bits that `pair_matmul` has for a second one."""
    low, high = (bound[first::2] for bound in conv.extremes)
    return not bool((low > -_MAX_B).all() and (high < _MAX_B).all())


def _fits(conv: Convolution) -> bool:
    window = conv.window
    whole = window.dilations == (1, 1) and conv.depth == conv.channels_in
    return whole and (window.batches == 1 or _is_pointwise(conv)) and has_fast_pairs(conv)


def _is_pointwise(conv: Convolution) -> bool:
    window = conv.window
    return window.kernel == (1, 1) and window.strides == (1, 1) and window.padding == (0, 0)


def _pixels(conv: Convolution) -> int:
    return conv.window.batches * math.prod(conv.window.size_out)


def _is_one_row(conv: Convolution) -> bool:
    """Whether weights meet a single pixel, of which whole words can be read: it need not be widened first."""
    return _is_pointwise(conv) and _pixels(conv) == 1 and conv.depth % 4 == 0


def _column(conv: Convolution) -> int:
    """Elements from one column of the band to the next."""
    return round_up(conv.window.kernel[0] * conv.depth, 4 if conv.depth % 4 == 0 else 2)


def _scratch(conv: Convolution) -> int:
    window = conv.window
    if _is_one_row(conv):
        return 0
    if _is_pointwise(conv):
        return 2 * min(_pixels(conv), BLOCK) * round_up(conv.depth, 4)
    column, width = _column(conv), window.kernel[1]
    columns = (window.size_out[1] - 1) * window.strides[1] + width
    return 2 * (columns * column + round_up(width * column, 4) - width * column)


def _in_place(conv: Convolution) -> bool:
    if _is_one_row(conv):
        return False
    if _is_pointwise(conv):
        return True
    window = conv.window
    row_in, row_out = window.size_in[1] * conv.channels_in, window.size_out[1] * conv.channels
    for y in range(window.size_out[0]):
        rows_read = y * window.strides[0] - window.padding[0] + window.kernel[0]
        if rows_read < window.size_in[0] and (y + 1) * row_out > rows_read * row_in:
            return False
    return True


def widened_order(weights: Integers) -> Integers:
    """Weights [..., depth] in the order in which `widen` stores activations."""
    if weights.shape[-1] % 4:
        return weights
    return weights.reshape(*weights.shape[:-1], -1, 4)[..., _SXTB16_ORDER].reshape(weights.shape)


def _ordered_weights(conv: Convolution) -> Integers:
    """Weights [channels, depth] in the order of the activations in scratch, zeros where those have gaps."""
    channels, height, width, depth = conv.weights.shape
    weights = widened_order(conv.weights)
    if _is_pointwise(conv):
        flat = weights.reshape(channels, depth)
    else:
        columns = weights.transpose(0, 2, 1, 3).reshape(channels, width, height * depth)
        gap = _column(conv) - height * depth
        flat = np.pad(columns, ((0, 0), (0, 0), (0, gap))).reshape(channels, -1)
    return np.pad(flat, ((0, 0), (0, round_up(flat.shape[1], 4) - flat.shape[1])))


def pair_stream(
    weights: Integers,
    bias: Integers,
    scales: Sequence[FastScale],
    *,
    deep: bool,
    together: int = 1,
    uniform: bool = False,
) -> Integers:
    """The stream of `pair_matmul`: uint32 values in an int64 array.

    weights: [channels, depth] in the order of the activations; bias: [channels], the zero point folded in;
    deep: the sums are; together: pairs whose streams are interleaved; uniform: all have the first scale.
    """
    missing = -len(weights) % (2 * together)
    weights = np.pad(weights, ((0, missing), (0, 0)))
    bias = np.pad(bias, (0, missing))
    words = [scale.words for scale in scales] + [(0, 0, 0)] * missing
    a, b = weights[0::2], weights[1::2]
    lanes = (256 * b + a) & 0xFFFF
    groups = len(a) // together
    second = 2 * bias[1::2] if deep else bias[0::2] + 256 * bias[1::2]
    header = np.stack([bias[0::2], second], axis=1).reshape(groups, -1)
    body = lanes[:, 0::2] | (lanes[:, 1::2] << 16)
    body = body.reshape(groups, together, -1, 2).swapaxes(1, 2).reshape(groups, -1)
    trailer = np.array(words, dtype=np.int64).reshape(groups, -1)
    parts = [header, body] if uniform else [header, body, trailer]
    stream = np.concatenate(parts, axis=1).reshape(-1)
    if uniform:
        stream = np.concatenate([np.array(words[0]), stream])
    masked: Integers = stream & 0xFFFFFFFF
    return masked


def _emit(conv: Convolution, names: Names) -> LayerCode:
    fast = fast_convolution(conv)
    assert fast is not None
    uniform = _is_one_row(conv) and len(set(fast.scales)) == 1
    window, deep = conv.window, is_deep(fast.conv)
    stream = pair_stream(
        _ordered_weights(fast.conv),
        fast.conv.folded_bias,
        fast.scales,
        deep=deep,
        together=2 if _is_one_row(conv) else 1,
        uniform=uniform,
    )
    array = Array("Stream", "uint32_t", [f"0x{word:X}u" for word in stream], 4 * len(stream))
    policy = f"{fast.clamping}, {str(deep).lower()}"
    scratch = f"reinterpret_cast<int16_t*>({names.scratch})"
    pointers = f"{scratch}, {names.inputs[0]}, {names.output}"
    if _is_one_row(conv):
        call = (
            f"kernels::fully_connected<{conv.depth}, {conv.channels}, {policy}, {str(uniform).lower()}>("
            f"{names.prefix}Stream, {names.inputs[0]}, {names.output});"
        )
        return LayerCode(("kernels/fully_connected.h",), (call,), (array,))
    if _is_pointwise(conv):
        call = (
            f"kernels::pointwise<{_pixels(conv)}, {conv.depth}, {conv.channels}, {policy}>("
            f"{names.prefix}Stream, {pointers});"
        )
        return LayerCode(("kernels/conv2d.h",), (call,), (array,))
    declaration = f"constexpr kernels::Window {names.prefix}Window = {window.cpp()};"
    call = (
        f"kernels::conv2d<{names.prefix}Window, {conv.depth}, {conv.channels}, {policy}>("
        f"{names.prefix}Stream, {conv.zero_point}, {pointers});"
    )
    return LayerCode(("kernels/conv2d.h",), (call,), (array,), (declaration,))


PAIRS = Strategy(_fits, _scratch, _in_place, _emit)
