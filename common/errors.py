"""One error tree: all that a user can cause is a `UserError`, one line that says what, where, what to do."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the `tinyboost` command."""

    OK = 0
    CHECK_FAILED = 1
    USAGE = 2
    OVER_BUDGET = 3
    NO_BOARD = 4
    LINK = 5
    TOOL_MISSING = 6
    INTERRUPTED = 130


class UserError(Exception):
    """Base of every error that is shown to the user as one line, without a traceback."""

    exit_code: ExitCode = ExitCode.USAGE


def first_line(error: BaseException) -> str:
    """What a library's error says, for an error of one line; its type where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class ConfigError(UserError):
    """A configuration, argument or input file is wrong."""


class CheckpointError(ConfigError):
    """A training cannot go on from its checkpoint: that is damaged, or was written under other settings."""

    def __init__(self, reason: str, remedy: str = "train without --resume") -> None:
        super().__init__(f"{reason}: {remedy}")
        self.reason = reason


class ModelError(UserError):
    """A model file is damaged, or holds something that tinyboost does not support."""


class CheckFailedError(UserError):
    """A check ran and its answer is no."""

    exit_code = ExitCode.CHECK_FAILED


class OverBudgetError(UserError):
    """The model or image does not fit the board."""

    exit_code = ExitCode.OVER_BUDGET


class NoBoardError(UserError):
    """No board, or no such port."""

    exit_code = ExitCode.NO_BOARD


class LinkError(UserError):
    """The board does not answer, or answers nonsense."""

    exit_code = ExitCode.LINK


class ToolMissingError(UserError):
    """A program or package that a stage needs is not installed."""

    exit_code = ExitCode.TOOL_MISSING
