"""What this machine has of what tinyboost needs, and the line that installs the rest."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from converter.board import board_names, load_board
from tools.programs import APT, INSTALL_LINES
from tools.runs import REPOSITORY


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for; `fix` is the line to type where it is missing or wrong."""

    kind: Literal["python", "package", "program", "data", "board"]
    name: str
    ok: bool
    required: bool
    found: str
    fix: str = ""


_OPTIONAL = ("git", "openocd", "renode")


def examine() -> list[Finding]:
    """Look at Python, the pinned packages, programs, the demo's data set and connected boards."""
    return [_python(), *_packages(), *_programs(), _fashion_mnist(), *_boards()]


def _python() -> Finding:
    version = platform.python_version()
    ok = version.startswith("3.11.")
    return Finding(
        "python", "Python 3.11", ok, True, version, "" if ok else APT + "python3.11 python3.11-venv"
    )


def _packages() -> Iterator[Finding]:
    pins = {}
    for line in (REPOSITORY / "constraints.txt").read_text().split():
        name, _, version = line.partition("==")
        pins[canonicalize_name(name)] = version
    for text in metadata.requires("tinyboost") or []:
        requirement = Requirement(text)
        if requirement.marker is not None:
            continue
        name = canonicalize_name(requirement.name)
        pinned = pins[name]
        fix = f"pip install -c {REPOSITORY / 'constraints.txt'} {name}"
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Finding("package", name, False, True, "not installed", fix)
            continue
        ok = Version(found).public == pinned
        found = found if ok else f"{found}, tested with {pinned}"
        yield Finding("package", name, ok, True, found, "" if ok else fix)


def _programs() -> Iterator[Finding]:
    for name, fix in INSTALL_LINES.items():
        path = shutil.which(name)
        required = name not in _OPTIONAL
        if path is None:
            yield Finding("program", name, False, required, "not found on PATH", fix)
        else:
            yield Finding("program", name, True, required, _version_line(path))


def _version_line(path: str) -> str:
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return f"{path} ({error})"
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0] if lines else path


def _fashion_mnist() -> Finding:
    from common.errors import UserError
    from trainer.config import DataConfig
    from trainer.data.mnist import find_fashion_mnist

    try:
        find_fashion_mnist(DataConfig(name="fashion_mnist"))
    except UserError as error:
        return Finding("data", "Fashion-MNIST", False, False, str(error), APT + "dataset-fashion-mnist")
    return Finding("data", "Fashion-MNIST", True, False, "installed")


def _boards() -> Iterator[Finding]:
    from common.errors import NoBoardError
    from tools.targets.silicon import find_port

    for name in board_names():
        board = load_board(name)
        try:
            port = find_port(board)
        except NoBoardError as error:
            yield Finding(
                "board", board.title, False, False, str(error), "plug the board in (USB ST-LINK, CN14)"
            )
        else:
            yield Finding("board", board.title, True, False, port)
