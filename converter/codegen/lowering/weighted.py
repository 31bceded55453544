"""CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED: checks, and the choice of a strategy."""

from __future__ import annotations

import numpy as np

from converter.codegen.arithmetic import quantization
from converter.codegen.lowering.case import (
    Case,
    LayerCode,
    Lowering,
    Names,
    require,
    require_activation,
    require_int8,
)
from converter.codegen.lowering.convolution import Convolution, Strategy, convolution
from converter.codegen.lowering.depthwise import DEPTHWISE
from converter.codegen.lowering.pairs import PAIRS
from converter.codegen.lowering.plain import PLAIN
from converter.graph import DepthwiseConv2DOptions

# In order of preference.
_STRATEGIES = (PAIRS, DEPTHWISE, PLAIN)


def _check(case: Case) -> None:
    data, weights, output = case.input(0), case.input(1), case.output
    require_activation(data, output)
    require_int8(data, output)
    require(weights.data is not None, f"has weights '{weights.name}' that are not a constant")
    require(weights.dtype == np.int8, f"has weights of type {weights.dtype}, not int8")
    require(weights.quantization is not None, "has weights without quantization")
    steps = quantization(weights)
    require(not steps.zero_point.any(), "has weights with a zero point other than 0")
    axis = 3 if isinstance(case.options, DepthwiseConv2DOptions) else 0
    one_axis = len(steps.scale) == 1 or steps.axis == axis
    require(one_axis, f"has weights quantized along axis {steps.axis}, not {axis}")
    bias = case.optional_input(2)
    if bias is not None:
        require(bias.data is not None, f"has a bias '{bias.name}' that is not a constant")
        require(bias.dtype == np.int32, f"has a bias of type {bias.dtype}, not int32")


def _strategy(conv: Convolution) -> Strategy:
    return next(strategy for strategy in _STRATEGIES if strategy.fits(conv))


def _emit(case: Case, names: Names) -> LayerCode:
    conv = convolution(case)
    return _strategy(conv).emit(conv, names)


def _scratch(case: Case) -> int:
    conv = convolution(case)
    return _strategy(conv).scratch(conv)


def _in_place(case: Case) -> tuple[int, ...]:
    conv = convolution(case)
    return (0,) if _strategy(conv).in_place(conv) else ()


CONVOLUTION = Lowering(_check, _emit, _scratch, _in_place)
