"""Trains a grid of arms, settings and seeds, and says what came out: table, curves, differences."""
