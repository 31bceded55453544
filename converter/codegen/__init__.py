"""Ahead-of-time C++ from a graph and its memory plan."""

from converter.codegen.generate import GeneratedLayer, GeneratedModel, constant_bytes, generate
from converter.codegen.support import LOWERINGS, check_ends, check_support, engine_needs

__all__ = [
    "LOWERINGS",
    "GeneratedLayer",
    "GeneratedModel",
    "check_ends",
    "check_support",
    "constant_bytes",
    "engine_needs",
    "generate",
]
