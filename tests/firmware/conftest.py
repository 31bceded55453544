from __future__ import annotations

from pathlib import Path

import pytest
from firmware_build import BOARD, built


@pytest.fixture(scope="session")
def chip_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build folder of an image with the fake model for the chip."""
    return built(BOARD, tmp_path_factory.mktemp("chip") / "build")


@pytest.fixture(scope="session")
def host_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build folder of the host image with the fake model, and of the unit tests; with sanitizers."""
    return built("unit-tests", tmp_path_factory.mktemp("host") / "build")
