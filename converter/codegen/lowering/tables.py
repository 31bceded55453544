"""Operators from one int8 value to one int8 value, each computed ahead of time for all 256 inputs.

LOGISTIC, TANH, HARD_SWISH, LEAKY_RELU, RELU, RELU6 and QUANTIZE from int8 to int8, with the roundings of
TFLite's reference kernels (`tensorflow/lite/kernels/internal/reference`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from converter.codegen.arithmetic import (
    INT8_MAX,
    INT8_MIN,
    Scale,
    multiply,
    quantize_scale,
    rounding_divide_by_power_of_two,
)
from converter.codegen.lowering.case import (
    Case,
    LayerCode,
    Lowering,
    Names,
    integers,
    require,
    require_activation,
    require_int8,
)
from converter.codegen.transcendental import logistic, tanh
from converter.graph import LeakyReluOptions, Tensor

Function = Callable[[int], int]

_INT16_MIN, _INT16_MAX = -(1 << 15), (1 << 15) - 1
_INPUT_INTEGER_BITS = 4


def saturated(value: int) -> int:
    """The nearest int8."""
    return min(max(value, INT8_MIN), INT8_MAX)


def table_code(function: Function, elements: int, source: str, names: Names) -> LayerCode:
    """Code that maps `elements` values at `source` through `function`; the output may take their place."""
    # Bytes as the kernel indexes them: 0 to 127, then -128 to -1.
    values = np.array([function(q) for q in (*range(INT8_MAX + 1), *range(INT8_MIN, 0))], dtype=np.int8)
    call = f"kernels::map<{elements}>({names.prefix}Table, {source}, {names.output});"
    return LayerCode(("kernels/table.h",), (call,), (integers("Table", "int8_t", values),))


def _require_output(case: Case, scale: float, zero_point: int) -> None:
    output = case.output
    require(
        output.scale == scale and output.zero_point == zero_point,
        f"has an output quantization other than scale 1/{round(1 / scale)} and zero point {zero_point}",
    )


def _require_no_overflow(scale: Scale) -> None:
    """Require that 9-bit differences to a zero point can be scaled in 32 bits."""
    require(scale.shift < 31 - 9, "has an output scale too small for its input scale")


def _squashing(data: Tensor, function: Function, low: int) -> Function:
    """LOGISTIC and TANH: `function` from Q4.27 to Q0.31, brought to int8 steps; `low` is its lower limit."""
    mantissa, shift = math.frexp(data.scale * 2 ** (31 - _INPUT_INTEGER_BITS))
    require(shift >= 0, f"has an input with the tiny scale {data.scale}")
    factor = Scale(math.floor(mantissa * 2**31 + 0.5), shift)
    radius = ((1 << _INPUT_INTEGER_BITS) - 1) * 2 ** (31 - _INPUT_INTEGER_BITS) // 2**shift
    fraction_bits = 8 if low == 0 else 7

    def value(q: int) -> int:
        difference = q - data.zero_point
        if abs(difference) >= radius:
            return INT8_MIN if difference <= -radius else INT8_MAX
        result = function(multiply(difference, factor))
        zero_point = INT8_MIN if low == 0 else 0
        return saturated(rounding_divide_by_power_of_two(result, 31 - fraction_bits) + zero_point)

    return value


def _logistic(case: Case) -> Function:
    _require_output(case, 1 / 256, INT8_MIN)
    return _squashing(case.input(0), logistic, 0)


def _tanh(case: Case) -> Function:
    _require_output(case, 1 / 128, 0)
    return _squashing(case.input(0), tanh, -1)


def _int16(value: int) -> int:
    return min(max(value, _INT16_MIN), _INT16_MAX)


def _int16_multiplier(scale: Scale) -> int:
    return min((scale.multiplier + (1 << 15)) >> 16, _INT16_MAX)


def _int16_high_mul(a: int, b: int) -> int:
    """a * b * 2**-15, rounded to nearest, ties upwards."""
    return _int16((a * b + (1 << 14)) >> 15)


def _int16_rounding_divide(x: int, exponent: int) -> int:
    """x * 2**-exponent, rounded to nearest, ties away from zero; beyond 15 as gemmlowp's mask overflows."""
    if exponent > 15:
        return -1 if x < 0 else 1
    return rounding_divide_by_power_of_two(x, exponent)


def _hard_swish(case: Case) -> Function:
    data, output = case.input(0), case.output
    to_output = quantize_scale(data.scale / 128 / output.scale)
    to_gate = quantize_scale(data.scale / 128 / (3 / 32768))
    require(to_output.shift <= 0, "has an output scale too small for its input scale")

    def gate(value: int) -> int:
        """Q0.15 of relu6(x + 3) / 6."""
        value = _int16(value << max(to_gate.shift - 1, 0))
        value = _int16_high_mul(value, _int16_multiplier(to_gate))
        if to_gate.shift > 0:
            value = _int16(value << 1)
        return (_int16_rounding_divide(value, max(-to_gate.shift, 0)) + (1 << 15)) >> 1

    def value(q: int) -> int:
        fine_value = (q - data.zero_point) << 7
        product = gate(fine_value) * _int16_high_mul(fine_value, _int16_multiplier(to_output))
        truncated = _int16(int(math.copysign(abs(product) >> 15, product)))
        return saturated(_int16_rounding_divide(truncated, -to_output.shift) + output.zero_point)

    return value


def _leaky_relu(case: Case) -> Function:
    assert isinstance(case.options, LeakyReluOptions)
    data, output, alpha = case.input(0), case.output, case.options.alpha
    above = quantize_scale(data.scale / output.scale)
    below = quantize_scale(data.scale * abs(alpha) / output.scale)
    sign = -1 if alpha < 0 else 1
    _require_no_overflow(above)
    _require_no_overflow(below)

    def value(q: int) -> int:
        difference = q - data.zero_point
        scaled = multiply(difference, above) if difference >= 0 else sign * multiply(difference, below)
        return saturated(scaled + output.zero_point)

    return value


def _rescaling(data: Tensor, output: Tensor, scale: Scale, low: int) -> Function:
    _require_no_overflow(scale)

    def value(q: int) -> int:
        return max(saturated(multiply(q - data.zero_point, scale) + output.zero_point), low)

    return value


def _relu(case: Case) -> Function:
    data, output = case.input(0), case.output
    return _rescaling(data, output, quantize_scale(data.scale / output.scale), output.zero_point)


def _relu6(case: Case) -> Function:
    # TFLite clamps the input's own steps, whatever the output's quantization says.
    data = case.input(0)
    six = data.zero_point + math.floor(float(np.float32(6.0) / np.float32(data.scale)) + 0.5)
    return lambda q: min(max(q, data.zero_point), six)


def _requantize(case: Case) -> Function:
    data, output = case.input(0), case.output
    return _rescaling(data, output, quantize_scale(data.scale / output.scale), INT8_MIN)


def _lowering(function: Callable[[Case], Function]) -> Lowering:
    def check(case: Case) -> None:
        require_activation(case.input(0), case.output)
        require_int8(case.input(0), case.output)
        function(case)

    def emit(case: Case, names: Names) -> LayerCode:
        return table_code(function(case), case.output.elements, names.inputs[0], names)

    return Lowering(check, emit, in_place=lambda _: (0,))


def table(case: Case) -> Sequence[int]:
    """What an operator of one of these kinds gives for the inputs -128 to 127."""
    function = _FUNCTIONS[case.operator.kind](case)
    return [function(q) for q in range(INT8_MIN, INT8_MAX + 1)]


_FUNCTIONS: dict[str, Callable[[Case], Function]] = {
    "HARD_SWISH": _hard_swish,
    "LEAKY_RELU": _leaky_relu,
    "LOGISTIC": _logistic,
    "QUANTIZE": _requantize,
    "RELU": _relu,
    "RELU6": _relu6,
    "TANH": _tanh,
}

HARD_SWISH = _lowering(_hard_swish)
LEAKY_RELU = _lowering(_leaky_relu)
LOGISTIC = _lowering(_logistic)
RELU = _lowering(_relu)
RELU6 = _lowering(_relu6)
REQUANTIZE = _lowering(_requantize)
TANH = _lowering(_tanh)
