# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Medians, quartiles and differences of the benchmark."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.stats import Summary, marginal, percentile, summary

FIGURES = st.lists(st.floats(-1e9, 1e9), min_size=1)


@pytest.mark.parametrize(
    ("percent", "expected"), [(1, 15), (25, 20), (50, 35), (75, 40), (80, 40), (81, 50), (100, 50)]
)
def test_nearest_rank(percent: float, expected: float) -> None:
    assert percentile([50, 15, 40, 20, 35], percent) == expected


def test_99th_of_a_hundred_is_not_the_slowest() -> None:
    assert percentile(list(range(1, 101)), 99) == 99


@pytest.mark.parametrize("percent", [0, -1, 100.1])
def test_no_percentage(percent: float) -> None:
    with pytest.raises(ValueError, match="percentage"):
        percentile([1.0], percent)


def test_nothing_has_no_figures() -> None:
    for function in (summary, lambda values: percentile(values, 50)):
        with pytest.raises(ValueError, match=r"no (values|median)"):
            function([])


def test_a_disturbed_round_does_not_matter() -> None:
    assert summary([60, 61, 59, 60, 9000]) == Summary(median=60, low=60, high=61)


@given(FIGURES)
def test_quartiles_are_around_the_median(values: list[float]) -> None:
    result = summary(values)
    assert min(values) <= result.low <= result.median <= result.high <= max(values)


@given(FIGURES)
def test_order_does_not_matter(values: list[float]) -> None:
    assert summary(values) == summary(sorted(values))


def test_marginal_takes_off_what_rounds_have_in_common() -> None:
    base = [57.0, 57.0, 110.0]
    assert marginal([value + 66 for value in base], base) == [66, 66, 66]


def test_marginal_wants_the_same_rounds() -> None:
    with pytest.raises(ValueError, match="zip"):
        marginal([1.0, 2.0], [1.0])
