"""What holds for every test: its examples, and what it must leave as it was.

Hypothesis tries the same examples in each run; `pytest --hypothesis-profile=explore` tries new ones.
"""

from __future__ import annotations

import logging
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

_ANY_MACHINE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("fixed", _ANY_MACHINE, derandomize=True, database=None)
settings.register_profile("explore", _ANY_MACHINE, derandomize=False)
settings.load_profile("fixed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Take back the logging that the command line set up, also in a fixture that a whole module shares:
    handlers hold a stderr that ends with the test, levels hide from later tests what they look for."""
    handlers, levels = logging.root.handlers[:], _levels()
    try:
        return (yield)
    finally:
        logging.root.handlers[:] = handlers
        for name in _levels():
            logging.getLogger(name).setLevel(levels.get(name, logging.NOTSET))


def _levels() -> dict[str, int]:
    """The level of every logger by its name, the root's too."""
    loggers = (logging.root, *logging.root.manager.loggerDict.values())
    return {each.name: each.level for each in loggers if isinstance(each, logging.Logger)}
