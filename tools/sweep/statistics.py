"""Means, standard deviations and differences of small samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation (n - 1 in the denominator; None for fewer than two values)."""

    n: int
    mean: float
    sd: float | None


@dataclass(frozen=True)
class Difference:
    """A difference of means with its 95 % confidence interval, None for fewer than two values on a side."""

    mean: float
    interval: tuple[float, float] | None


def summarise(values: Sequence[float]) -> Summary:
    """Mean and standard deviation of at least one value."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return Summary(len(values), mean, None)
    return Summary(
        len(values), mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    )


def difference(values: Sequence[float], reference: Sequence[float]) -> Difference:
    """Mean of `values` minus that of `reference`, with Welch's t interval (Biometrika 34, 1947)."""
    one, other = summarise(values), summarise(reference)
    mean = one.mean - other.mean
    if one.sd is None or other.sd is None:
        return Difference(mean, None)
    shares = one.sd**2 / one.n, other.sd**2 / other.n
    error = math.sqrt(sum(shares))
    if error == 0:
        return Difference(mean, (mean, mean))
    freedom = sum(shares) ** 2 / (shares[0] ** 2 / (one.n - 1) + shares[1] ** 2 / (other.n - 1))
    half = _student_quantile(freedom) * error
    return Difference(mean, (mean - half, mean + half))


def _student_quantile(freedom: float) -> float:
    """The 97.5 % quantile of Student's t distribution."""
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    return float(stdtrit(freedom, 0.975))
