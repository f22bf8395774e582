# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Choose the schedules: each fault before each call, pairs of faults, then random ones."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from dataclasses import dataclass, field, replace
from random import Random

from tests.simulation.schedules import FAULTS, At, Config, Fault, Report, Schedule, Server, run

GOOD = Server.GOOD
CONFIGS = (
    Config(),
    Config(on_timeout="fail", max_s=1.0, every_s=0.1),
    Config(on_timeout="keep", max_s=1.0, every_s=0.1),
    Config(hold_s=2.0, every_s=60.0),
    Config(is_first=True),
    Config(restarts=True),
    Config(flows=2, groups=1),
    Config(quiet_s=1.5),
    Config(connects=True, flows=1, every_s=0.1),
    Config(quiet_s=1.5, connects=True, flows=2, on_timeout="fail"),
    Config(notifies=True, every_s=0.1),
    Config(notifies=True, quiet_s=1.0, connects=True, hold_s=2.0),
    Config(notifies=True, on_timeout="keep", max_s=0.1, every_s=0.1),
    Config(servers=(GOOD, Server.SLOW, Server.SLOW)),
    *(
        Config(servers=(GOOD, GOOD, server))
        for server in (
            Server.FAILS,
            Server.NEVER_READY,
            Server.NO_SOCKETS,
            Server.FEW_SOCKETS,
            Server.MUTE,
            Server.FADES,
            Server.SHORT,
        )
    ),
    Config(servers=(GOOD, Server.MUTE, Server.SHORT)),
    Config(servers=(GOOD, Server.SHORT, GOOD), restarts=True),
)
_BUSY = Config(every_s=0.1)
_HELD = Config(hold_s=4.0, flows=2, max_s=20.0)
#: Schedules that faults are added to: a good restart of each kind, and those after a first fault.
BASES = (
    *((config, ()) for config in CONFIGS),
    *(
        (_BUSY, (Fault(kind, At("drain", "sleep", 2)),))
        for kind in ("operator rolls back", "kill", "reboot", "operator restarts")
    ),
    (_HELD, (Fault("operator promotes old", At("drain", "sleep", 4)),)),
    (_BUSY, (Fault("silent systemd", At("stop", "systemctl", 1)),)),
    (_BUSY, (Fault("slow systemd", At("stop", "systemctl", 1)),)),
)
_MOST_FAULTS = 5
#: Share of schedules with another restart at the end: it takes as long as all before.
_AGAIN = 0.25
_KEPT = 500


@dataclass
class Summary:
    """The count of what was run. pairs: (step, fault) reached; couples: two in one schedule.

    singles: schedules with one fault more than their base, of all that there are.
    """

    schedules: int = 0
    singles: int = 0
    all_singles: int = 0
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
        self.singles += other.singles
        self.all_singles = other.all_singles
        self.by_faults += other.by_faults
        self.pairs += other.pairs
        self.couples |= other.couples
        self.outcomes += other.outcomes
        self.failures += other.failures


def explore(count: int, seed: int, job: int = 0, jobs: int = 1) -> Summary:
    """Run so many schedules: four fifths with one fault, or all of these, a tenth with two."""
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

    singles = _singles(seed)
    summary.all_singles = len(singles)
    for schedule in singles[job::jobs][: (4 * count + 4) // 5]:
        do(schedule)
    summary.singles = summary.schedules
    while summary.schedules < count and kept:
        is_pair = summary.schedules < (summary.singles + count) // 2
        parent, report = random.choice(kept)
        if not is_pair or len(parent.faults) == 1:
            do(_with_one_more(parent, report, random))
    return summary


@functools.cache
def _singles(seed: int) -> list[Schedule]:
    """Return a schedule for each fault before each call, first one for each (step, fault)."""
    order = Random(seed)  # the same for all jobs
    found = []
    for config, faults in BASES:
        base = Schedule(config, faults, seed)
        calls = dict.fromkeys(At(*at) for at in _trace_after(base, run(base)))
        found += [
            replace(base, faults=(*faults, Fault(kind, at)), again=order.random() < _AGAIN)
            for at in calls
            for kind in FAULTS
        ]
    order.shuffle(found)
    found.sort(key=lambda one: one.faults[-1].at.number)
    first = {(one.faults[-1].at.step, one.faults[-1].kind): one for one in reversed(found)}
    return list(dict.fromkeys([*first.values(), *found]))


def _trace_after(schedule: Schedule, report: Report) -> list[tuple[str, str, int]]:
    """Return the calls after the last fault of a schedule."""
    if not schedule.faults:
        return report.trace
    last = schedule.faults[-1].at
    return report.trace[report.trace.index(last) + 1 :] if last in report.trace else []


def _with_one_more(schedule: Schedule, report: Report, random: Random) -> Schedule:
    """Add a fault after the last one, in any step alike."""
    trace = _trace_after(schedule, report)
    if not trace:
        return replace(schedule, seed=random.getrandbits(32))
    step = random.choice(sorted({at[0] for at in trace}))
    at = At(*random.choice([at for at in trace if at[0] == step]))
    fault = Fault(random.choice(FAULTS), at)
    return replace(schedule, faults=(*schedule.faults, fault))
