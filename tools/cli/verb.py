"""What every verb has in common: -v, -q, --json, one way to print a result, one way to fail."""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from common.errors import ExitCode, UserError
from tools import console
from tools.config import TargetName
from trainer.launch import launched

RunOption = Annotated[
    Path | None,
    typer.Option(
        "-o", "--run", metavar="DIR", help="Run folder. Default: runs/<name of the config or model>."
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("-c", "--config", metavar="FILE", help="TOML configuration. Default: the run folder's."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a configuration key, e.g. train.epochs=3."),
]
TargetOption = Annotated[
    TargetName | None,
    typer.Option("--target", help="Where the image runs. Default: test.target of the configuration."),
]


@dataclass(frozen=True)
class Outcome:
    """What a verb found: `data` is printed with --json, `show` prints it for people."""

    data: dict[str, Any]
    show: Callable[[], None] = field(default=lambda: None)
    exit_code: ExitCode = ExitCode.OK


class InterruptedByUserError(UserError):
    """The user pressed Ctrl-C."""

    exit_code = ExitCode.INTERRUPTED


_COMMON = {
    "verbose": Annotated[
        int, typer.Option("-v", "--verbose", count=True, help="Say more (-vv: with sources).")
    ],
    "quiet": Annotated[bool, typer.Option("-q", "--quiet", help="Only results and errors.")],
    "as_json": Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")],
}
_DEFAULTS: dict[str, Any] = {"verbose": 0, "quiet": False, "as_json": False}


def verb(function: Callable[..., Outcome]) -> Callable[..., None]:
    """Turn a function that gives an `Outcome` into a command with the common options."""

    @functools.wraps(function)
    def command(*, verbose: int, quiet: bool, as_json: bool, **arguments: Any) -> None:
        main = launched().main
        console.set_up_logging(verbose if main and not quiet else -1)
        try:
            outcome = function(**arguments)
        except KeyboardInterrupt:
            raise InterruptedByUserError("what was finished is kept; give the same command again") from None
        if not main:
            pass
        elif as_json:
            sys.stdout.write(json.dumps({"schema": 1, **outcome.data}, indent=2, default=str) + "\n")
        else:
            outcome.show()
        if outcome.exit_code:
            raise typer.Exit(outcome.exit_code)

    own = inspect.signature(function, eval_str=True)
    common = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=_DEFAULTS[name], annotation=annotation
        )
        for name, annotation in _COMMON.items()
    ]
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own.parameters.values()]
    signature = own.replace(parameters=[*parameters, *common], return_annotation=None)
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    return command
