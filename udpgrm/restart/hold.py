# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The hold: a drained instance is kept for some time, so that a rollback needs no start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from udpgrm.restart import host, published
from udpgrm.restart.journal import Journal


def keep(
    hold_s: float, journal: Journal, evidence: dict[str, Any], pause: Callable[[], bool]
) -> None:
    """Keep the instance until the time is over, it ends, or a later restart begins.

    pause: waits a little, and returns whether the instance lives. May raise to end the step. A
    restart that is resumed holds for the time that remains.
    """
    if not hold_s or journal.superseded:
        return
    clock = host.current
    held = journal.plan.setdefault(
        "hold", {"begun": clock.time(), "hold_s": hold_s, "until": clock.monotonic() + hold_s}
    )
    evidence["hold"] = {name: held[name] for name in ("begun", "hold_s")}
    journal.save()
    published.discard(journal.path)  # samples of the drain: they would hide the hold
    end = held["until"]  # a time of this boot: a stale journal is not resumed
    while clock.monotonic() < end and not journal.superseded and pause():
        pass
