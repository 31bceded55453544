"""ADD, QUANTIZE, DEQUANTIZE, RESHAPE."""

from __future__ import annotations

import numpy as np

from converter.codegen.arithmetic import Range, output_range, quantize_scale
from converter.codegen.lowering import tables
from converter.codegen.lowering.case import (
    Case,
    LayerCode,
    Lowering,
    Names,
    braces,
    require,
    require_activation,
    require_int8,
)
from converter.codegen.lowering.fast_scale import clamping, fast_scale
from converter.graph import ActivationOptions

_ADD_HEADROOM = 20
_HEADERS = ("kernels/elementwise.h",)


def add_scales(case: Case, bounds: Range) -> tuple[int, str] | None:
    """Position of the operand of the larger scale, and a `kernels::AddScales` initialiser.

    None where the proofs of firmware/kernels/add.h fail.
    """
    twice_largest = 2.0 * max(case.input(0).scale, case.input(1).scale)
    exact, scaled = (0, 1) if case.input(0).scale >= case.input(1).scale else (1, 0)
    factor = quantize_scale(case.input(scaled).scale / twice_largest)
    scale = quantize_scale(twice_largest / (2**_ADD_HEADROOM * case.output.scale))
    fast = fast_scale(scale, 2 * (255 << (_ADD_HEADROOM - 1)), bounds.zero_point)
    if fast is None or factor.shift < -30:
        return None
    zero_exact, zero_scaled = case.input(exact).zero_point, case.input(scaled).zero_point
    scales = braces(
        -zero_exact << (_ADD_HEADROOM - 1),
        -zero_scaled << (_ADD_HEADROOM + 1),
        factor.multiplier,
        -factor.shift,
        braces(*fast),
    )
    return exact, scales


def add_same_shape(case: Case, names: Names) -> LayerCode | None:
    """ADD of activations of the same shape by firmware/kernels/add.h; None where its proofs fail."""
    assert isinstance(case.options, ActivationOptions)
    bounds = output_range(case.output, case.options.activation)
    found = add_scales(case, bounds)
    if found is None:
        return None
    exact, scales = found
    declaration = f"constexpr kernels::AddScales {names.prefix}Scales = {scales};"
    call = (
        f"kernels::add_same_shape<{names.prefix}Scales, {case.output.elements}, {clamping(bounds)}>("
        f"{names.inputs[exact]}, {names.inputs[1 - exact]}, {names.output});"
    )
    return LayerCode(("kernels/add.h",), (call,), (), (declaration,))


def _check_quantize(case: Case) -> None:
    if case.input(0).dtype != np.float32:
        tables.REQUANTIZE.check(case)
        return
    require_activation(case.input(0), case.output)
    require_int8(case.output)


def _emit_quantize(case: Case, names: Names) -> LayerCode:
    data, output = case.input(0), case.output
    if data.dtype != np.float32:
        return tables.REQUANTIZE.emit(case, names)
    call = (
        f"kernels::quantize({output.elements}, {_cpp_float(output.scale)}, {output.zero_point}, "
        f"{names.inputs[0]}, {names.output});"
    )
    return LayerCode(_HEADERS, (call,))


def _check_dequantize(case: Case) -> None:
    data, output = case.input(0), case.output
    require_activation(data, output)
    require_int8(data)
    require(output.dtype == np.float32, f"has an output of type {output.dtype}, not float32")


def _emit_dequantize(case: Case, names: Names) -> LayerCode:
    data = case.input(0)
    call = (
        f"kernels::dequantize({data.elements}, {_cpp_float(data.scale)}, {data.zero_point}, "
        f"{names.inputs[0]}, {names.output});"
    )
    return LayerCode(_HEADERS, (call,))


def _cpp_float(value: float) -> str:
    return float(np.float32(value)).hex() + "f"


def _check_reshape(case: Case) -> None:
    data, output = case.input(0), case.output
    require_activation(data, output)
    require(data.dtype == output.dtype, f"turns {data.dtype} into {output.dtype}")


def _emit_nothing(case: Case, names: Names) -> LayerCode:  # noqa: ARG001 (one signature for all)
    return LayerCode((), ())


def _first_if_int8(case: Case) -> tuple[int, ...]:
    return (0,) if case.input(0).dtype == case.output.dtype else ()


QUANTIZE = Lowering(_check_quantize, _emit_quantize, in_place=_first_if_int8)
DEQUANTIZE = Lowering(_check_dequantize, _emit_dequantize)
RESHAPE = Lowering(_check_reshape, _emit_nothing, alias=True)
