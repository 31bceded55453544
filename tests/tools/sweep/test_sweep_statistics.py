"""Means, deviations and intervals against numpy's and scipy's."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from tools.sweep.statistics import difference, summarise

samples = st.lists(st.floats(0, 1, width=32), min_size=2, max_size=12)


@given(samples)
def test_summaries_are_numpys(values: list[float]) -> None:
    summary = summarise(values)
    assert summary.n == len(values)
    assert summary.mean == pytest.approx(np.mean(values), abs=1e-12)
    assert summary.sd == pytest.approx(np.std(values, ddof=1), abs=1e-9)


@given(samples, samples)
def test_intervals_are_scipys_welch(values: list[float], reference: list[float]) -> None:
    found = difference(values, reference)
    assert found.mean == pytest.approx(np.mean(values) - np.mean(reference), abs=1e-12)
    assert found.interval is not None
    assume(np.var(values) + np.var(reference) > 1e-9)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)  # of one constant sample
        test = stats.ttest_ind(values, reference, equal_var=False)
    expected = test.confidence_interval(0.95)
    assert found.interval == pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-9)


def test_constant_samples_differ_for_sure() -> None:
    assert difference([0.5, 0.5], [0.25, 0.25]).interval == (0.25, 0.25)


def test_one_value_has_no_deviation() -> None:
    assert summarise([0.5]).sd is None
    assert difference([0.5], [0.25, 0.3]).interval is None
    assert difference([0.5, 0.6], [0.25]).mean == pytest.approx(0.3)
