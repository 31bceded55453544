"""Numba's decorators, typed."""

from __future__ import annotations

from collections.abc import Callable, MutableSequence
from typing import Any, TypeVar, cast

import numba

# The array that `layout` describes; in compiled code a pointer to 64-bit words.
Shared = MutableSequence[int]

_F = TypeVar("_F", bound=Callable[..., Any])


def jit(function: _F) -> _F:
    """Compile a helper of the callbacks."""
    return cast(_F, numba.njit(error_model="numpy")(function))


def callback(signature: Any) -> Callable[[_F], _F]:
    """Compile a C function of the given Numba signature."""

    def decorate(function: _F) -> _F:
        return cast(_F, numba.cfunc(signature, error_model="numpy")(function))

    return decorate
