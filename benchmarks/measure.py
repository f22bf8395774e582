# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Rounds: every case in turn, so that whatever slows the machine slows all of them.

A round of a case is a burst that warms caches and is not counted, then
`PASSES` bursts; the median of those is the round's figure.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable

from benchmarks.place import quiet
from benchmarks.programs import run_statistics, run_time

ROUNDS = 41
PASSES = 4


@dataclass(frozen=True)
class Case:
    """Something to be timed.

    programs: fds of those whose run times are added up. burst: makes them run
    `runs` times in all (for `wall_times`: makes that many calls). ready: what
    has to be done before a round, untimed.
    """

    name: str
    programs: Sequence[int]
    runs: int
    burst: Callable[[], object]
    ready: Callable[[], object] = lambda: None


def _totals(case: Case) -> tuple[int, int]:
    times = [run_time(fd) for fd in case.programs]
    return sum(item[0] for item in times), sum(item[1] for item in times)


def program_times(
    cases: Sequence[Case], rounds: int = ROUNDS, passes: int = PASSES
) -> dict[str, list[float]]:
    """Nanoseconds per run, by round. Raises RuntimeError when runs are missing."""
    result: dict[str, list[float]] = {case.name: [] for case in cases}
    with quiet(), run_statistics():
        for _ in range(rounds):
            for case in cases:
                case.ready()
                case.burst()
                figures = []
                before = _totals(case)
                for _ in range(passes):
                    case.burst()
                    after = _totals(case)
                    runs = after[1] - before[1]
                    if runs != case.runs:
                        raise RuntimeError(f"{case.name}: {runs} runs instead of {case.runs}")
                    figures.append((after[0] - before[0]) / runs)
                    before = after
                result[case.name].append(statistics.median(figures))
    return result


def wall_times(
    cases: Sequence[Case], rounds: int = ROUNDS, passes: int = PASSES
) -> dict[str, list[float]]:
    """Nanoseconds per call as the caller sees them, by round."""
    result: dict[str, list[float]] = {case.name: [] for case in cases}
    clock = time.perf_counter_ns
    with quiet():
        for _ in range(rounds):
            for case in cases:
                case.ready()
                case.burst()
                figures = []
                for _ in range(passes):
                    started = clock()
                    case.burst()
                    figures.append((clock() - started) / case.runs)
                result[case.name].append(statistics.median(figures))
    return result
