"""Puts every sample to the target and keeps what it answers in `board.json`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median_low

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from board_tests.artefacts import Model
from common.errors import ConfigError
from converter.costs import operator_macs
from tools import console
from tools.image import image_memory
from tools.link.client import Link
from tools.results import BoardResults, LayerCount
from tools.targets import Target

# Seconds of work that a pulled plug may cost.
_SAVE_EVERY = 10.0


@dataclass
class Answers:
    """What the target answered so far: an int8 output vector and a count for each sample, in their order."""

    target: Target
    link: Link
    model: Model
    outputs: list[list[int]] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def results(self, *, image: Path | None = None, complete: bool = False) -> BoardResults:
        """As `board.json` holds them, of a complete run with profile, estimate and memory."""
        answered = len(self.outputs)
        expected = self.model.expected.reshape(len(self.model.expected), -1)[:answered]
        outputs = np.array(self.outputs, np.int8).reshape(expected.shape)
        predictions = outputs.argmax(axis=1)
        return BoardResults(
            target=self.target.name,
            complete=complete,
            description=self.link.hello().entries,
            samples=len(self.model.inputs),
            unit=self.target.unit,
            outputs=self.outputs,
            predictions=predictions.tolist(),
            counts=self.counts,
            mismatches=int(np.count_nonzero(predictions != expected.argmax(axis=1))),
            output_mismatches=int(np.count_nonzero((outputs != expected).any(axis=1))),
            cycles_estimate=self._estimate() if complete else None,
            stack_used=(self.link.memory().stack_used or None) if complete else None,
            image=image_memory(image, self.model.board) if image else None,
            layers=self._profile() if complete else [],
        )

    def _estimate(self) -> int | None:
        return self.target.estimate_cycles(self.link, median_low(self.counts)) if self.counts else None

    def _profile(self) -> list[LayerCount]:
        counts = self.link.run([self.model.inputs[0]], profile=True).layer_cycles or ()
        operators = self.model.graph.operators
        return [
            LayerCount(
                index=operator.index,
                name=operator.name,
                op=operator.kind,
                macs=operator_macs(self.model.graph, operator),
                count=count,
            )
            # An image that leaves no RAM free records only the first layers.
            for operator, count in zip(operators, counts, strict=False)
        ]


def collect_answers(target: Target, link: Link, model: Model, image: Path) -> BoardResults:
    """Put all samples to the target; what is known is in `board.json` however this ends.

    A run on the real board goes on where an interrupted one with the same image and samples stopped.

    Raises:
        LinkError: the target fell silent, faulted or went away.
    """
    answers = Answers(target, link, model)
    path = model.run.board_results
    if target.name == "board":
        _take_over(answers, path)
    saved = time.monotonic()
    try:
        with _progress(len(answers.outputs), len(model.inputs)) as progress:
            for sample in model.inputs[len(answers.outputs) :]:
                result = link.run([sample])
                answers.outputs.append(result.outputs[0].ravel().tolist())
                answers.counts.append(result.cycles)
                progress.advance(progress.task_ids[0])
                if time.monotonic() - saved > _SAVE_EVERY:
                    answers.results().save(path)
                    saved = time.monotonic()
    finally:
        answers.results().save(path)
    on_chip = image if target.name != "host" else None
    results = answers.results(image=on_chip, complete=True)
    results.save(path)
    return results


def _take_over(answers: Answers, path: Path) -> None:
    """Take the answers of an interrupted run, where it was one of this image and these samples."""
    try:
        earlier = BoardResults.load(path)
    except ConfigError:
        return
    wanted = answers.results()
    same = ("target", "description", "samples")
    if not earlier.complete and all(getattr(earlier, name) == getattr(wanted, name) for name in same):
        answers.outputs, answers.counts = earlier.outputs, earlier.counts


@contextmanager
def _progress(done: int, total: int) -> Iterator[Progress]:
    columns = (TextColumn("samples"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console.err, disable=not console.err.is_terminal) as progress:
        progress.add_task("samples", completed=done, total=total)
        yield progress
