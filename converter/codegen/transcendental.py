"""exp, logistic and tanh in gemmlowp's fixed-point arithmetic (`fixedpoint/fixedpoint.h`).

A number Qm.n is an int32 that stands for itself times 2**-n; m + n is 31.
"""

from __future__ import annotations

import math

import numpy as np

from converter.codegen.arithmetic import (
    INT8_MAX,
    INT8_MIN,
    quantize_scale,
    rounding_divide_by_power_of_two,
    rounding_doubling_high_mul,
)

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
_SOFTMAX_INTEGER_BITS = 5


def softmax_table(scale: float, beta: float) -> list[int]:
    """exp(-d * beta * scale) in Q0.31 for d = 0, 1, ... as far as gemmlowp's fixed-point softmax looks."""
    fraction_bits = 31 - _SOFTMAX_INTEGER_BITS
    real = min(float(np.float32(beta)) * float(scale) * 2**fraction_bits, float(INT32_MAX))
    factor = quantize_scale(real)
    left = max(factor.shift, 0)
    radius = math.floor((2**_SOFTMAX_INTEGER_BITS - 1) * 2**fraction_bits / 2**left)
    count = min(radius, INT8_MAX - INT8_MIN) + 1
    return [
        _exp(rounding_doubling_high_mul(-d << left, factor.multiplier), _SOFTMAX_INTEGER_BITS)
        for d in range(count)
    ]


def logistic(x: int) -> int:
    """1 / (1 + exp(-x)) in Q0.31 of x in Q4.27."""
    if x == 0:
        return 1 << 30
    result = _saturated(_inverse_of_one_plus(_exp(-abs(x), 4)) << 1)
    return result if x > 0 else INT32_MAX - result


def tanh(x: int) -> int:
    """Hyperbolic tangent in Q0.31 of x in Q4.27."""
    if x == 0:
        return 0
    # With a = exp(-2 |x|) it is (1 - a) / (1 + a) = 2 / (1 + a) - 1; Q5.26 of 2 x has the bits of x.
    half = _inverse_of_one_plus(_exp(-abs(x), 5))
    result = _saturated((half - (1 << 29)) << 2)
    return result if x > 0 else -result


def _saturated(x: int) -> int:
    return min(max(x, INT32_MIN), INT32_MAX)


def _inverse_of_one_plus(a: int) -> int:
    """2 / (1 + a) in Q2.29 for a in [0, 1] in Q0.31: three steps of Newton and Raphson."""
    half_denominator = (a + INT32_MAX + 1) // 2
    x = 1515870810 + rounding_doubling_high_mul(half_denominator, -1010580540)  # 48/17 - 32/17 d
    for _ in range(3):
        error = (1 << 29) - rounding_doubling_high_mul(half_denominator, x)
        x += _saturated(rounding_doubling_high_mul(x, error) << 2)
    return x


def _exp(x: int, integer_bits: int) -> int:
    """exp of x <= 0 as Q0.31: a polynomial on (-1/4, 0], times exp of the powers of two left."""
    if x == 0:
        return INT32_MAX
    fraction_bits = 31 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    offset = (x & (quarter - 1)) - quarter
    result = _exp_between_minus_quarter_and_zero(offset << integer_bits)
    remainder = offset - x
    for exponent in range(-2, integer_bits):
        if remainder & (1 << (fraction_bits + exponent)):
            factor = math.floor(math.exp(-(2.0**exponent)) * 2**31 + 0.5)
            result = rounding_doubling_high_mul(result, factor)
    return result


def _exp_between_minus_quarter_and_zero(a: int) -> int:
    """exp in Q0.31 for a in [-1/4, 0): the Taylor polynomial of degree 4 around -1/8."""
    constant = math.floor(math.exp(-1 / 8) * 2**31 + 0.5)
    third = math.floor(2**31 / 3 + 0.5)
    x = a + (1 << 28)
    x2 = rounding_doubling_high_mul(x, x)
    x3 = rounding_doubling_high_mul(x2, x)
    x4_over_4 = rounding_divide_by_power_of_two(rounding_doubling_high_mul(x2, x2), 2)
    tail = rounding_divide_by_power_of_two(rounding_doubling_high_mul(x4_over_4 + x3, third) + x2, 1)
    return constant + rounding_doubling_high_mul(constant, x + tail)
