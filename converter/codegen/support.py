"""What the ahead-of-time engine supports, and what it needs from the memory plan."""

from __future__ import annotations

from common.errors import ModelError
from converter.codegen.dead_channels import without_dead_channels
from converter.codegen.lowering import (
    binary,
    elementwise,
    movement,
    reductions,
    resize,
    tables,
    transpose_conv,
    weighted,
)
from converter.codegen.lowering.case import Case, Lowering, UnsupportedError
from converter.graph import Graph
from converter.memory import EngineNeeds

# What firmware/harness keeps track of, and what docs/protocol.md can number.
MAX_INPUTS = 4
MAX_OUTPUTS = 255

LOWERINGS: dict[str, Lowering] = {
    "ADD": binary.ADD,
    "ARG_MAX": reductions.ARG_MAX,
    "ARG_MIN": reductions.ARG_MIN,
    "AVERAGE_POOL_2D": reductions.AVERAGE_POOL_2D,
    "CONCATENATION": movement.MOVEMENT,
    "CONV_2D": weighted.CONVOLUTION,
    "DEPTHWISE_CONV_2D": weighted.CONVOLUTION,
    "DEPTH_TO_SPACE": movement.MOVEMENT,
    "DEQUANTIZE": elementwise.DEQUANTIZE,
    "EXPAND_DIMS": elementwise.RESHAPE,
    "FULLY_CONNECTED": weighted.CONVOLUTION,
    "HARD_SWISH": tables.HARD_SWISH,
    "LEAKY_RELU": tables.LEAKY_RELU,
    "LOGISTIC": tables.LOGISTIC,
    "MAXIMUM": binary.MAXIMUM,
    "MAX_POOL_2D": reductions.MAX_POOL_2D,
    "MEAN": reductions.MEAN,
    "MINIMUM": binary.MINIMUM,
    "MUL": binary.MUL,
    "PACK": movement.MOVEMENT,
    "PAD": movement.PAD,
    "PADV2": movement.PAD,
    "PRELU": binary.PRELU,
    "QUANTIZE": elementwise.QUANTIZE,
    "REDUCE_MAX": reductions.REDUCE_MAX,
    "REDUCE_MIN": reductions.REDUCE_MIN,
    "RELU": tables.RELU,
    "RELU6": tables.RELU6,
    "RESHAPE": elementwise.RESHAPE,
    "RESIZE_BILINEAR": resize.BILINEAR,
    "RESIZE_NEAREST_NEIGHBOR": resize.NEAREST,
    "SLICE": movement.MOVEMENT,
    "SOFTMAX": reductions.SOFTMAX,
    "SPACE_TO_DEPTH": movement.MOVEMENT,
    "SPLIT": movement.MOVEMENT,
    "SPLIT_V": movement.MOVEMENT,
    "SQUEEZE": elementwise.RESHAPE,
    "STRIDED_SLICE": movement.MOVEMENT,
    "SUB": binary.SUB,
    "SUM": reductions.SUM,
    "TANH": tables.TANH,
    "TRANSPOSE": movement.MOVEMENT,
    "TRANSPOSE_CONV": transpose_conv.TRANSPOSE_CONV,
    "UNPACK": movement.MOVEMENT,
}


def check_support(graph: Graph) -> None:
    """Check that every operator can be lowered.

    Raises:
        ModelError: names the first operator that cannot, its layer and why, or the supported operators.
    """
    for operator in graph.operators:
        what = f"{graph.name}: {operator.kind} in layer {operator.index} '{operator.name}'"
        if operator.kind not in LOWERINGS:
            raise ModelError(f"{what} is not supported; supported operators: {', '.join(LOWERINGS)}")
        try:
            LOWERINGS[operator.kind].check(Case(graph, operator))
        except UnsupportedError as error:
            raise ModelError(
                f"{what} {error}; convert the model to int8 as TFLite's converter does"
            ) from None


def check_ends(graph: Graph) -> None:
    """Check that the harness can take all inputs and give all outputs.

    Raises:
        ModelError: there are too many.
    """
    for what, count, most in (
        ("inputs", len(graph.inputs), MAX_INPUTS),
        ("outputs", len(graph.outputs), MAX_OUTPUTS),
    ):
        if count > most:
            raise ModelError(
                f"{graph.name}: has {count} {what}, the firmware takes at most {most}; "
                "join some of them with CONCATENATION, or split the model"
            )


def engine_needs(graph: Graph) -> EngineNeeds:
    """Scratch memory, inputs that an output may replace in place, aliases and parts, of a supported graph."""
    graph = without_dead_channels(graph)
    scratch, in_place, aliases, parts = {}, {}, {}, {}
    for operator in graph.operators:
        case, lowering = Case(graph, operator), LOWERINGS[operator.kind]
        if lowering.alias:
            aliases[operator.index] = operator.inputs[0]
            continue
        scratch[operator.index] = lowering.scratch(case)
        inputs = [operator.inputs[position] for position in lowering.in_place(case)]
        if inputs:
            in_place[operator.index] = tuple(dict.fromkeys(inputs))
        within = lowering.parts(case)
        if within:
            parts[operator.index] = within
    return EngineNeeds(scratch, in_place, aliases, parts)
