# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The wait until a generation has drained, or its policy gives it up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional

from udpgrm.restart import published, steering
from udpgrm.restart.drain import Decision, Watcher
from udpgrm.restart.groups import Groups
from udpgrm.restart.journal import Journal, warn
from udpgrm.restart.machine import Result, Step
from udpgrm.restart.prober import Evidence
from udpgrm.services.definition import Drain


def await_drained(
    drain: Drain,
    groups: Groups,
    journal: Journal,
    generation: int,
    evidence: Evidence,
    notify: Callable[[], bool],
    watch: Callable[[], None],
    pause: Callable[[], None],
) -> Optional[Decision]:
    """Sample until a generation has drained or its time is over; return None if it is active then.

    notify is called as long as it returns False and the generation is not active, watch before
    each sample, pause after it; all may raise to end the step.
    """
    watcher, was_active, is_notified = Watcher(drain.until, drain.max_s), False, False
    while True:
        watch()
        is_active = steering.is_active(groups, generation)
        if was_active and not is_active:  # the drain's time begins with the last new flow
            watcher = Watcher(drain.until, drain.max_s)
        was_active = is_active
        is_notified = is_notified or (not is_active and notify())
        sample = groups.sample(generation)
        decision = watcher.decide(sample)
        evidence["drain"] = journal.progress = watcher.report()
        if decision is not Decision.WAIT:
            evidence["drained"] = decision is Decision.DRAINED
            if decision is Decision.TIMEOUT:
                warn(evidence, watcher.shortfall())
            elif doubt := watcher.doubt():
                warn(evidence, doubt)
            if is_active and sample.sockets:
                warn(evidence, steering.refusal(generation))
                return None
            return decision
        journal.publish()
        pause()


def keep(
    groups: Groups,
    journal: Journal,
    generation: int,
    name: str,
    evidence: Evidence,
    watch: Callable[[], None],
) -> Result:
    """Leave an instance running that has not drained, unless it is active."""
    evidence["kept"] = name
    journal.save()  # before the last check: no later change is missed silently
    published.discard(journal.path)  # samples of the drain: they would hide that it is kept
    watch()
    if steering.serves(groups, generation):
        warn(evidence, steering.refusal(generation))
        return Result.STUCK
    return Result.KEPT


def has_drained(drain: Drain, groups: Groups, generation: int) -> bool:
    """Return whether a generation has drained now, whenever it began to."""
    watcher = Watcher(drain.until, drain.max_s)
    return watcher.decide(groups.sample(generation)) is Decision.DRAINED


def is_undrained(drain: Drain, groups: Groups, journal: Journal) -> bool:
    """Return whether the instance that a suspended restart was to stop has to drain first.

    An operator may have made it active meanwhile. Whether its flows are newer than its drain is
    not known. False for other steps, and for a first deployment, which has nothing to go back to.
    """
    doomed = {Step.STOP: journal.from_generation, Step.STOP_NEW: journal.to_generation}
    generation = doomed.get(journal.position.step)
    if generation is None or journal.from_generation is None:
        return False
    return steering.serves(groups, generation) or not has_drained(drain, groups, generation)
