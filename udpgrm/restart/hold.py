# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The hold: a drained instance is kept for some time, so that a rollback needs no start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from udpgrm.restart import host
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
    begun = {"begun": host.current.time(), "hold_s": hold_s}
    held = evidence["hold"] = journal.plan.setdefault("hold", begun)
    journal.save()
    remaining = min(hold_s, held["begun"] + held["hold_s"] - host.current.time())
    end = host.current.monotonic() + remaining
    while host.current.monotonic() < end and not journal.superseded and pause():
        pass
