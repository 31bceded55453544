"""Reader of `firmware/boards/<board>/board.toml`, the one description of a board."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import ConfigError

FIRMWARE_DIR = Path(__file__).resolve().parent.parent / "firmware"
BOARDS_DIR = FIRMWARE_DIR / "boards"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Chip(_Section):
    """The microcontroller; clocks in Hz."""

    name: str
    core: Literal["cortex-m7"]
    fpu: str
    clock_hz: int = Field(gt=0)
    hse_hz: int = Field(gt=0)


class Region(_Section):
    """A memory region; origin and size in bytes, aliases are further addresses of the same memory."""

    name: str
    kind: Literal["flash", "itcm", "ram"]
    origin: int = Field(ge=0)
    size: int = Field(gt=0)
    aliases: tuple[int, ...] = ()

    @property
    def end(self) -> int:
        """First address after the region."""
        return self.origin + self.size


class Uart(_Section):
    """The serial port that the host talks to."""

    peripheral: str
    tx: str
    rx: str
    baud: int = Field(gt=0)


class Stack(_Section):
    """Stack reservation in bytes."""

    reserve: int = Field(gt=0)


class Probe(_Section):
    """How the debug probe is found and driven."""

    usb: str
    openocd: str


class Board(_Section):
    """A board as `board.toml` describes it."""

    name: str
    title: str
    chip: Chip
    memory: tuple[Region, ...]
    uart: Uart
    stack: Stack
    probe: Probe

    @property
    def ram(self) -> tuple[Region, ...]:
        """The data RAM regions (without ITCM), in address order."""
        return tuple(sorted((r for r in self.memory if r.kind == "ram"), key=lambda r: r.origin))

    @property
    def ram_bytes(self) -> int:
        """Data RAM of the chip in bytes: the budget of a whole image."""
        return sum(region.size for region in self.ram)

    @property
    def flash(self) -> Region:
        """The flash region."""
        return next(region for region in self.memory if region.kind == "flash")


def board_names() -> list[str]:
    """Names of the boards that have a `board.toml`."""
    return sorted(path.parent.name for path in BOARDS_DIR.glob("*/board.toml"))


def load_board(name: str) -> Board:
    """Load the description of board `name`.

    Raises:
        ConfigError: no such board, or its file is damaged.
    """
    path = BOARDS_DIR / name / "board.toml"
    if not path.is_file():
        raise ConfigError(f"unknown board '{name}'; known boards: {', '.join(board_names())}")
    try:
        return Board.model_validate(tomllib.loads(path.read_text()))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise ConfigError(f"{path}: {error}") from error
