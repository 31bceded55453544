"""What an operator costs: multiply-accumulates and bytes of constants."""

from __future__ import annotations

from converter.graph import Graph, Operator


def operator_macs(graph: Graph, operator: Operator) -> int:
    """Multiply-accumulates of one operator: convolutions and matrix products; padding counts as data."""
    if operator.kind not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"):
        return 0
    weights = graph.tensors[operator.inputs[1]]
    if operator.kind == "TRANSPOSE_CONV":
        return graph.tensors[operator.inputs[2]].elements * (weights.elements // weights.shape[3])
    outputs = graph.tensors[operator.outputs[0]].elements
    channels = weights.shape[3] if operator.kind == "DEPTHWISE_CONV_2D" else weights.shape[0]
    return outputs * (weights.elements // channels)


def graph_macs(graph: Graph) -> int:
    """Multiply-accumulates of one inference."""
    return sum(operator_macs(graph, operator) for operator in graph.operators)


def weights_bytes(graph: Graph) -> tuple[int, ...]:
    """Bytes of constants per operator; a constant that several share counts for the first."""
    counted: set[int] = set()
    sizes = []
    for operator in graph.operators:
        own = {i for i in operator.inputs if i >= 0 and graph.tensors[i].is_constant} - counted
        sizes.append(sum(graph.tensors[i].nbytes for i in own))
        counted |= own
    return tuple(sizes)
