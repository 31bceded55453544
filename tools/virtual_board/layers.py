"""Counts each layer of a model apart: what its function executed, with all that it calls."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from unicorn import Uc
from unicorn.unicorn_const import UC_HOOK_BLOCK

from tools.virtual_board.chip import Chip
from tools.virtual_board.cpu import LR
from tools.virtual_board.cycles import estimate
from tools.virtual_board.image import Image
from tools.virtual_board.memory import BlockCount
from tools.virtual_board.snapshot import LayerCounts
from tools.virtual_board.trace import Events, Trace

LAYER_FUNCTION = re.compile(r"layer_(\d+)_")


class LayerCounter:
    """Watches the functions `layer_<index>_...` of an image, while it is started.

    Counters start anew whenever a layer is entered, for what is counted belongs to the layer then.
    """

    def __init__(self, chip: Chip, image: Image, trace: Trace) -> None:
        self._chip = chip
        self._entries = {
            function.address: int(match[1])
            for function in image.functions
            if (match := LAYER_FUNCTION.match(function.symbol))
        }
        self._hooks: dict[int, int] = {}
        self._counted: dict[int, Counter[tuple[int, int, int]]] = {}
        self._events: dict[int, Events] = {}
        self._running: int | None = None
        self._trace = trace

    def start(self) -> None:
        """Count from now on."""
        self.stop()
        self._trace.start()
        for address in self._entries:
            self._watch(address)
        self._chip.cpu.unicorn.ctl_flush_tb()  # hooks are called in code translated from now on

    def stop(self) -> dict[int, LayerCounts]:
        """Return what was counted by layer, and watch no longer."""
        for hook in self._hooks.values():
            self._chip.cpu.unicorn.hook_del(hook)
        self._trace.stop()
        counted = {index: self._result(index) for index in sorted(self._counted)}
        self._hooks, self._counted, self._events, self._running = {}, {}, {}, None
        return counted

    def _watch(self, address: int) -> None:
        if address not in self._hooks:
            self._hooks[address] = self._chip.cpu.unicorn.hook_add(
                UC_HOOK_BLOCK, self._on_block, begin=address, end=address
            )

    def _on_block(self, _unicorn: Uc, address: int, size: int, _data: Any) -> None:
        """Notice that a layer begins, or that one has returned; the block is counted already."""
        memory = self._chip.memory
        if (index := self._entries.get(address)) is not None:
            self._watch(self._chip.cpu.read(LR) & ~1)
            memory.reset_counts()
            self._trace.reset_counts()
            self._running = index
            hits = self._counted.setdefault(index, Counter())
            hits[address, size, memory.count_instructions(address, address + size)] += 1
        elif self._running is not None:
            hits = self._counted[self._running]
            for block in memory.block_counts():
                if block.address != address:
                    hits[block.address, block.size, block.instructions] += block.hits
            self._events[self._running] = self._events.get(self._running, Events()).plus(self._trace.events)
            self._running = None

    def _result(self, index: int) -> LayerCounts:
        blocks = [BlockCount(*block, number) for block, number in sorted(self._counted[index].items())]
        cycles = estimate(self._chip.memory, blocks, self._events.get(index, Events()))
        return LayerCounts(
            instructions=sum(block.instructions * block.hits for block in blocks),
            cycles_estimate=cycles.total,
            cycles=cycles,
            blocks=blocks,
        )
