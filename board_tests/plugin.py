"""The pytest plugin of tinyboost: `--run DIR --target TARGET`, and fixtures for the model and for the target.

pytest loads it at every start, so it imports nothing of ours before a fixture is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from board_tests.artefacts import Model
    from tools.link.client import Link
    from tools.results import BoardResults
    from tools.targets import Target


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the board suite."""
    group = parser.getgroup("tinyboost", "tinyboost: tests of an image on a target")
    group.addoption("--run", metavar="DIR", type=Path, help="run folder whose image is tested")
    group.addoption(
        "--target",
        choices=("host", "virtual", "renode", "board"),
        default="virtual",
        help="where the image runs (default: %(default)s)",
    )
    group.addoption("--port", help="serial port of the real board (default: found by its USB id)")
    group.addoption(
        "--require-board", action="store_true", help="fail where no board is plugged in, instead of skipping"
    )
    group.addoption("--samples", metavar="N", type=int, help="put only the first N samples to the target")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker that pytest-timeout brings where it is installed."""
    config.addinivalue_line("markers", "timeout(seconds): time limit, 0 for none (pytest-timeout)")


@pytest.fixture(scope="session")
def model(pytestconfig: pytest.Config) -> Model:
    """The run folder's model, with samples and the right answers."""
    from board_tests.artefacts import Model

    folder = pytestconfig.getoption("--run")
    if folder is None:
        pytest.skip("no run folder given: --run DIR")
    with _told():
        return Model.load(folder, pytestconfig.getoption("--samples"))


@pytest.fixture(scope="session")
def image(pytestconfig: pytest.Config, model: Model) -> Path:
    """The image under test: an ELF, or the host build's executable."""
    from tools import stages

    with _told():
        return stages.image_of(model.run, pytestconfig.getoption("--target"), model.board)


@pytest.fixture(scope="session")
def board(pytestconfig: pytest.Config, model: Model, image: Path) -> Iterator[Target]:
    """The running target."""
    from tools.targets import open_target

    name, port = pytestconfig.getoption("--target"), pytestconfig.getoption("--port")
    skip = not pytestconfig.getoption("--require-board")
    with _told(skip_without_board=skip), open_target(name, model.board, image, port) as target:
        yield target


@pytest.fixture(scope="session")
def link(
    pytestconfig: pytest.Config, board: Target, model: Model, record_testsuite_property: Any
) -> Iterator[Link]:
    """A link to the target, whose image holds the model under test."""
    with _told(skip_without_board=not pytestconfig.getoption("--require-board")), board.link() as opened:
        description = opened.hello()
        opened.expect_model(model.graph.sha256)
        record_testsuite_property("target", board.name)
        for key in ("board", "engine", "model_sha256", "git", "clock_hz"):
            record_testsuite_property(key, description.entries[key])
        yield opened


@pytest.fixture(scope="session")
def answers(
    pytestconfig: pytest.Config, board: Target, link: Link, model: Model, image: Path
) -> BoardResults:
    """The target's answers to all samples; they are also in the run folder's `board.json`."""
    from board_tests.answers import collect_answers

    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with _told(), capture.global_and_fixture_disabled():
        return collect_answers(board, link, model, image)


@contextmanager
def _told(*, skip_without_board: bool = False) -> Iterator[None]:
    """Tell a user's error in one line; without a target to talk to, end the session with the error's code."""
    from common.errors import LinkError, NoBoardError, ToolMissingError, UserError

    try:
        yield
    except NoBoardError as error:
        if skip_without_board:
            pytest.skip(str(error))
        pytest.exit(str(error), returncode=error.exit_code)
    except (LinkError, ToolMissingError) as error:
        pytest.exit(str(error), returncode=error.exit_code)
    except UserError as error:
        pytest.fail(str(error), pytrace=False)
