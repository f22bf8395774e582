# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Which schedules are run: each fault in each step, pairs of faults, then random ones."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random

from tests.simulation.schedules import FAULTS, At, Config, Fault, Report, Schedule, Server, run

GOOD = Server.GOOD
CONFIGS = (
    Config(),
    Config(on_timeout="fail", max_s=1.0),
    Config(on_timeout="keep", max_s=1.0),
    Config(hold_s=2.0, every_s=60.0),
    Config(is_first=True),
    Config(restarts=True),
    Config(flows=2, groups=1),
    Config(servers=(GOOD, Server.SLOW, Server.SLOW)),
    *(
        Config(servers=(GOOD, GOOD, server))
        for server in (
            Server.FAILS,
            Server.NEVER_READY,
            Server.NO_SOCKETS,
            Server.FEW_SOCKETS,
            Server.MUTE,
            Server.SHORT,
        )
    ),
    Config(servers=(GOOD, Server.MUTE, Server.SHORT)),
    Config(servers=(GOOD, Server.SHORT, GOOD), restarts=True),
)
_MOST_FAULTS = 5
_KEPT = 500


@dataclass
class Summary:
    """What was run. pairs: (step, fault) that came; couples: two of them in one schedule."""

    schedules: int = 0
    by_faults: Counter[int] = field(default_factory=Counter)
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    couples: set[tuple[tuple[str, str], ...]] = field(default_factory=set)
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[Schedule, list[str]]] = field(default_factory=list)

    def add(self, schedule: Schedule, report: Report) -> None:
        """Count one schedule."""
        came = [(fault.at.step, fault.kind) for fault in report.reached]
        self.schedules += 1
        self.by_faults[len(came)] += 1
        self.pairs.update(came)
        self.couples.update(itertools.pairwise(came))
        self.outcomes[report.outcome] += 1
        if report.violations:
            self.failures.append((schedule, report.violations))

    def merge(self, other: Summary) -> None:
        """Add what another process has run."""
        self.schedules += other.schedules
        self.by_faults += other.by_faults
        self.pairs += other.pairs
        self.couples |= other.couples
        self.outcomes += other.outcomes
        self.failures += other.failures


def explore(count: int, seed: int, job: int = 0, jobs: int = 1) -> Summary:
    """Run so many schedules: a half with one fault, a quarter with two, a quarter with more."""
    random = Random(f"{seed}.{job}")
    summary = Summary()
    kept: list[tuple[Schedule, Report]] = []

    def do(schedule: Schedule) -> None:
        report = run(schedule)
        summary.add(schedule, report)
        if report.reached and len(report.reached) == len(schedule.faults) < _MOST_FAULTS:
            kept.append((schedule, report))
            if len(kept) > _KEPT:
                kept.pop(random.randrange(_KEPT))

    for schedule in itertools.islice(_singles(random, seed, job, jobs), (count + 1) // 2):
        do(schedule)
    while summary.schedules < count and kept:
        is_pair = summary.schedules < count * 3 // 4
        parent, report = random.choice(kept)
        if not is_pair or len(parent.faults) == 1:
            do(_with_one_more(parent, report, random))
    return summary


def _singles(random: Random, seed: int, job: int, jobs: int) -> Iterator[Schedule]:
    """Yield a schedule for each fault before each call, first one for each (step, fault)."""
    order = Random(seed)  # the same for all jobs
    found = []
    for config in CONFIGS:
        calls = dict.fromkeys(At(*at) for at in run(Schedule(config)).trace)
        found += [(config, at, kind) for at in calls if at.number <= 2 for kind in FAULTS]
    order.shuffle(found)
    found.sort(key=lambda one: one[1].number)
    first = {(at.step, kind): (config, at, kind) for config, at, kind in reversed(found)}
    for config, at, kind in [*first.values(), *found][job::jobs]:
        yield Schedule(config, (Fault(kind, at),), random.getrandbits(32))


def _with_one_more(schedule: Schedule, report: Report, random: Random) -> Schedule:
    """Add a fault after the last one, in any step alike."""
    trace = report.trace[report.trace.index(schedule.faults[-1].at) + 1 :]
    if not trace:
        return replace(schedule, seed=random.getrandbits(32))
    step = random.choice(sorted({at[0] for at in trace}))
    at = At(*random.choice([at for at in trace if at[0] == step]))
    fault = Fault(random.choice(FAULTS), at)
    return replace(schedule, faults=(*schedule.faults, fault))
