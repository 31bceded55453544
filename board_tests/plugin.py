"""The pytest plugin of tinyboost: the options that choose a run folder and the target that runs its image."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the board suite."""
    group = parser.getgroup("tinyboost", "tinyboost: tests of an image on a target")
    group.addoption("--run", metavar="DIR", help="run folder whose image is tested")
    group.addoption(
        "--target",
        choices=("host", "virtual", "renode", "board"),
        default="virtual",
        help="where the image runs (default: %(default)s)",
    )
