"""CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED: checks, and the choice of a strategy."""

from __future__ import annotations

from converter.codegen.lowering.case import (
    Case,
    LayerCode,
    Lowering,
    Names,
    require_activation,
    require_int8,
    require_weights,
)
from converter.codegen.lowering.convolution import Convolution, Strategy, convolution
from converter.codegen.lowering.depthwise import DEPTHWISE
from converter.codegen.lowering.gather import GATHER
from converter.codegen.lowering.pairs import PAIRS
from converter.codegen.lowering.plain import PLAIN
from converter.graph import DepthwiseConv2DOptions

# In order of preference.
_STRATEGIES = (PAIRS, DEPTHWISE, GATHER, PLAIN)


def _check(case: Case) -> None:
    data, weights, output = case.input(0), case.input(1), case.output
    require_activation(data, output)
    require_int8(data, output)
    axis = 3 if isinstance(case.options, DepthwiseConv2DOptions) else 0
    require_weights(weights, case.optional_input(2), axis)


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
