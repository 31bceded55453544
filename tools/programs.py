"""The programs that stages call, and the line that installs each."""

from __future__ import annotations

import shutil
from pathlib import Path

from common.errors import ToolMissingError

APT = "sudo apt-get install -y --no-install-recommends "
INSTALL_LINES = {
    "cmake": APT + "cmake",
    "ninja": APT + "ninja-build",
    "g++": APT + "g++",
    "arm-none-eabi-g++": APT + "gcc-arm-none-eabi libnewlib-arm-none-eabi libstdc++-arm-none-eabi-newlib",
    "git": APT + "git",
    "openocd": APT + "openocd",
    "renode": "unpack the portable package from github.com/renode/renode/releases",
}


def need_program(name: str) -> Path:
    """Path of a program.

    Raises:
        ToolMissingError: it is not on PATH; the message holds the line that installs it.
    """
    found = shutil.which(name)
    if found is None:
        raise ToolMissingError(f"{name} is not on PATH; to install it: {INSTALL_LINES[name]}")
    return Path(found)
