# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Medians, percentiles and differences of repeated measurements. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """The median of some measurements, and their first and third quartile."""

    median: float
    low: float
    high: float


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile (0 < percent <= 100). Raises ValueError on no values."""
    if not values:
        raise ValueError("no values")
    if not 0 < percent <= 100:
        raise ValueError(f"{percent} is no percentage")
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def summary(values: Sequence[float]) -> Summary:
    """Return the summary of the rounds of one case. Raises ValueError on no values."""
    return Summary(statistics.median(values), percentile(values, 25), percentile(values, 75))


def marginal(values: Sequence[float], base: Sequence[float]) -> list[float]:
    """Return the cost of a case over its base, by round, which removes noise common to both.

    Raises ValueError if the two do not have the same rounds.
    """
    return [value - other for value, other in zip(values, base, strict=True)]
