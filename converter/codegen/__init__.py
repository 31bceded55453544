"""Ahead-of-time C++ from a graph and its memory plan."""
