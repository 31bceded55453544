"""A flame graph: one row of layers in the order of execution, beneath each what its function consists of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tools.profile.collect import Node, Profile

WIDTH = 1116
ROW = 21
_LETTER = 6.3
_LEAST = 0.3  # narrower ones cannot be seen


@dataclass(frozen=True)
class Box:
    """A rectangle in CSS pixels; kind chooses the colour."""

    x: float
    y: int
    width: float
    label: str
    title: str
    kind: int


@dataclass(frozen=True)
class Flame:
    """Rectangles and the height that they need."""

    boxes: tuple[Box, ...]
    height: int


_KIND_OF_OP = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 3}
_OTHER_KIND = 4


def flame_graph(profile: Profile) -> Flame:
    """Lay the layers side by side; a width is a share of all instructions."""
    whole = profile.instructions
    if not whole:
        return Flame((), 0)
    boxes: list[Box] = []
    x = 0.0
    for use in profile.layers:
        kind = _KIND_OF_OP.get(use.layer.op, _OTHER_KIND)
        place = f"{use.layer.index} {use.layer.op}"
        boxes += _boxes(use.tree, (x, 0), kind, place, whole)
        x += use.instructions / whole * WIDTH
    return Flame(tuple(boxes), max((box.y for box in boxes), default=0) + ROW)


def _boxes(node: Node, corner: tuple[float, int], kind: int, place: str, whole: int) -> Iterator[Box]:
    x, y = corner
    share = node.instructions / whole
    width = share * WIDTH
    if width < _LEAST:
        return
    title = f"{place}: {node.name}\n{node.instructions:,} instructions, {share:.1%}"
    yield Box(round(x, 2), y, round(width, 2), _label(node.name, width), title, kind)
    for child in sorted(node.children.values(), key=lambda child: -child.instructions):
        yield from _boxes(child, (x, y + ROW), kind, place, whole)
        x += child.instructions / whole * WIDTH


def _label(name: str, width: float) -> str:
    letters = int((width - 6) / _LETTER)
    if len(name) <= letters:
        return name
    return name[: letters - 1] + "…" if letters > 3 else ""
