"""Puts together what a profile shows: layers, functions, lines, kinds of instructions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from converter.board import Board
from converter.codegen import GeneratedLayer
from tools.profile.debug_info import Place, places
from tools.profile.mix import OTHER, disassemble, kind_of
from tools.virtual_board.image import Image, load_image
from tools.virtual_board.snapshot import CycleEstimate, LayerCounts

_MODEL_SOURCE = "model.cc"


@dataclass
class Node:
    """Instructions of a function (or layer) with those of what it calls or holds inlined."""

    name: str
    instructions: int = 0
    children: dict[str, Node] = field(default_factory=dict)

    def add(self, path: tuple[str, ...], instructions: int) -> None:
        """Count instructions for this node and those on the path below it."""
        node = self
        node.instructions += instructions
        for name in path:
            node = node.children.setdefault(name, Node(name))
            node.instructions += instructions


@dataclass(frozen=True)
class LayerUse:
    """One layer: mix tells its instructions by kind, `tree` by function."""

    layer: GeneratedLayer
    instructions: int
    cycles: CycleEstimate
    mix: Counter[str]
    tree: Node


@dataclass(frozen=True)
class Line:
    """A line of source and the instructions that came from it."""

    file: str
    line: int
    function: str
    instructions: int


@dataclass(frozen=True)
class Profile:
    """All layers of an inference; functions: instructions of each by kind, without what it holds inlined."""

    layers: tuple[LayerUse, ...]
    functions: Mapping[str, Counter[str]]
    lines: tuple[Line, ...]

    @property
    def instructions(self) -> int:
        """Instructions of all layers."""
        return sum(use.instructions for use in self.layers)

    @property
    def mix(self) -> Counter[str]:
        """Instructions of all layers by kind."""
        return sum((use.mix for use in self.layers), Counter[str]())


def collect(
    elf: Path, board: Board, layers: tuple[GeneratedLayer, ...], counts: Mapping[int, LayerCounts]
) -> Profile:
    """Explain what was counted.

    Args:
        elf: the image that ran.
        board: its board.
        layers: of the generated code.
        counts: by layer.

    Raises:
        ConfigError: the image is absent or damaged.
    """
    image = load_image(board, elf)
    hits = {index: _instruction_hits(image, count) for index, count in counts.items()}
    every = sorted({address for executed in hits.values() for address in executed})
    origin = places(elf, every, (_MODEL_SOURCE,))
    functions: dict[str, Counter[str]] = {}
    lines: Counter[tuple[str, int, str]] = Counter()
    uses = []
    for layer in layers:
        mix: Counter[str] = Counter()
        tree = Node(layer.name)
        for address, (kind, number) in hits.get(layer.index, {}).items():
            place = origin.get(address) or Place((image.name_at(address) or "?",))
            mix[kind] += number
            tree.add(tuple(name for name in place.functions if name != layer.function), number)
            innermost = place.functions[-1]
            own = _group(innermost)
            functions.setdefault(own, Counter())[kind] += number
            if place.line:
                lines[place.file, place.line, own] += number
        cycles = counts[layer.index].cycles if layer.index in counts else CycleEstimate()
        uses.append(LayerUse(layer, mix.total(), cycles, mix, tree))
    return Profile(
        tuple(uses),
        dict(sorted(functions.items(), key=lambda item: -item[1].total())),
        tuple(Line(*where, number) for where, number in lines.most_common()),
    )


def _group(function: str) -> str:
    """Layers' own code counts as one: it is calls and loops."""
    return "layer functions" if function.startswith("layer_") else function


def _instruction_hits(image: Image, count: LayerCounts) -> dict[int, tuple[str, int]]:
    """Kind of each executed instruction and how often it ran, by address."""
    hits: dict[int, tuple[str, int]] = {}
    for block in count.blocks:
        decoded = dict(disassemble(_code(image, block.address, block.size), block.address))
        for address, mnemonic in decoded.items():
            before = hits.get(address, (OTHER, 0))[1]
            hits[address] = (kind_of(mnemonic), before + block.hits)
        # What cannot be decoded is counted nevertheless.
        if missing := (block.instructions - len(decoded)) * block.hits:
            rest = block.address + block.size - 1
            hits[rest] = (OTHER, hits.get(rest, (OTHER, 0))[1] + missing)
    return hits


def _code(image: Image, address: int, size: int) -> bytes:
    for segment in image.segments:
        offset = address - segment.run
        if offset >= 0 and offset + size <= len(segment.data):
            return segment.data[offset : offset + size]
    return b""
