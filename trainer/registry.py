"""Named things a configuration can choose from, and to which a user adds their own."""

from __future__ import annotations

import difflib
from typing import Generic, TypeVar

from common.errors import ConfigError

T = TypeVar("T")


class Registry(Generic[T]):
    """Maps names to values of one kind; an unknown name is an error that names the nearest known one."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._values: dict[str, T] = {}

    def register(self, name: str, value: T) -> None:
        """Add `value` under `name`; raises ValueError where the name is taken."""
        if name in self._values:
            raise ValueError(f"{self._kind} {name!r} is registered already")
        self._values[name] = value

    def get(self, name: str) -> T:
        """Look `name` up; raises ConfigError for an unknown name."""
        if name in self._values:
            return self._values[name]
        near = difflib.get_close_matches(name, self._values, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"unknown {self._kind} {name!r}: {hint}known are {', '.join(sorted(self._values))}")

    def names(self) -> tuple[str, ...]:
        """All known names, in the order of registration."""
        return tuple(self._values)
