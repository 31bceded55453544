"""What holds for every test: its examples, and what it must leave as it was.

Hypothesis tries the same examples in each run; `pytest --hypothesis-profile=explore` tries new ones.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

_ANY_MACHINE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("fixed", _ANY_MACHINE, derandomize=True, database=None)
settings.register_profile("explore", _ANY_MACHINE, derandomize=False)
settings.load_profile("fixed")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Take back the handlers that the command line set: they hold a stderr that ends with the test."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
