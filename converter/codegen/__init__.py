"""Ahead-of-time C++ from a graph and its memory plan."""

from converter.codegen.generate import GeneratedLayer, GeneratedModel, generate
from converter.codegen.support import LOWERINGS, check_support, engine_needs

__all__ = ["LOWERINGS", "GeneratedLayer", "GeneratedModel", "check_support", "engine_needs", "generate"]
