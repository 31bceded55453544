"""What only an observer of the chip can see."""

from __future__ import annotations

import pytest

from tools.results import BoardResults
from tools.targets import Target

pytestmark = pytest.mark.timeout(0)  # the first test that wants the answers collects them


def test_chip_is_used_as_its_manual_allows(board: Target, answers: BoardResults) -> None:
    if board.observer is None:
        pytest.skip("only the virtual board watches the chip")
    assert answers.complete
    snapshot = board.observer.snapshot()
    assert snapshot.fault is None, str(snapshot.fault)
    assert snapshot.warnings == ()
