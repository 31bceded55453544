"""Readable layer names out of the tensor names that TensorFlow's converters leave behind."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

MAX_LENGTH = 64

# Last path components that name the operation inside a layer, not the layer.
_OPERATION = re.compile(
    r"(relu[0-9]*|biasadd|conv2d|convolution|depthwise|matmul|fusedbatchnorm(v[0-9])?|add(v2)?|mul|sub|"
    r"avgpool|maxpool|mean|reshape|softmax|pad|readvariableop|resource)[0-9]*",
    re.IGNORECASE,
)
_ANONYMOUS = re.compile(r"(identity|statefulpartitionedcall|partitionedcall)(_int8|_[0-9]+|:[0-9]+)*", re.I)
# A fused operator's tensor lists its parts' names; the part that names the layer itself ends so.
_TELLING = {
    "CONV_2D": ("biasadd",),
    "DEPTHWISE_CONV_2D": ("biasadd",),
    "FULLY_CONNECTED": ("biasadd", "matmul"),
    "ADD": ("add",),
}


def layer_names(layers: Sequence[tuple[str, str]]) -> list[str]:
    """Name layers, given (operator kind, name of the first output tensor) of each.

    Returns unique names of at most `MAX_LENGTH` characters out of [A-Za-z0-9_./-], in the given order, e.g.
    "conv2d_1" for "model/activation_1/Relu;model/batch_normalization_1/...;model/conv2d_1/BiasAdd;...".
    """
    roots = Counter(name.split("/")[0] for _, name in layers if "/" in name)
    common = {root for root, count in roots.items() if count * 2 > len(layers)}
    used: set[str] = set()
    names = []
    for kind, tensor_name in layers:
        base = _layer_name(kind, tensor_name, common)
        name, number = base, 2
        while name in used:
            name, number = f"{base}_{number}", number + 1
        used.add(name)
        names.append(name)
    return names


def _layer_name(kind: str, tensor_name: str, common_roots: set[str]) -> str:
    parts = [part for part in tensor_name.split(";") if part]
    telling = [part for end in _TELLING.get(kind, ()) for part in parts if part.lower().endswith(f"/{end}")]
    path = (telling or parts or [""])[0].split("/")
    while len(path) > 1 and path[0] in common_roots:
        path = path[1:]
    while len(path) > 1 and _OPERATION.fullmatch(path[-1]):
        path = path[:-1]
    name = "/".join(path)
    if not name or _ANONYMOUS.fullmatch(name):
        name = kind.lower()
    return re.sub(r"[^A-Za-z0-9_./-]", "_", name)[: MAX_LENGTH - 8]
