"""What an inference costs: counted where counts are exact, timed on silicon alone."""

from __future__ import annotations

import pytest

from board_tests.artefacts import Model
from tools.link.client import Link
from tools.results import BoardResults
from tools.targets import Target

pytestmark = pytest.mark.timeout(0)  # the first test that wants the answers collects them


def test_same_input_costs_the_same(board: Target, link: Link, model: Model) -> None:
    if board.name != "virtual":
        pytest.skip("counts are exact on the virtual board only")
    first, second = (link.run([model.inputs[0]]) for _ in range(2))
    assert first.cycles == second.cycles > 0


def test_profile_adds_up(answers: BoardResults) -> None:
    layers = sum(layer.count for layer in answers.layers)
    assert answers.count is not None
    if answers.unit == "instructions":
        assert layers == pytest.approx(answers.count, rel=0.01, abs=100 * len(answers.layers))
    assert layers > 0


def test_latency_is_within_its_limit(answers: BoardResults, model: Model) -> None:
    limit = model.config.test.max_latency_ms
    if answers.latency_ms is None:
        pytest.skip("only silicon tells milliseconds")
    if limit is None:
        pytest.skip("test.max_latency_ms is not set")
    assert answers.latency_ms <= limit
