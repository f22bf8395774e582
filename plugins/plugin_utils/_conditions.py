# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Conditions for the next batch of a rollout: each lets it begin, makes it wait, or stops the run."""

from __future__ import annotations

import dataclasses
import time
import typing as t

POLL_S = 2.0
_SAY_EVERY_S = 60.0


@dataclasses.dataclass(frozen=True)
class Answer:
    """The answer of a condition: nothing, a reason to wait, or one to stop."""

    wait: str = ""
    stop: str = ""


GO = Answer()

# Asked again after each wait.
Condition = t.Callable[[], Answer]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The reason to stop the run, empty if the batch may begin; and notes of what it waited for."""

    stop: str
    notes: list[str]


def await_all(
    conditions: t.Sequence[Condition],
    display: t.Callable[[str], None],
    on_wait: t.Callable[[str], None],
    clock: t.Callable[[], float] = time.monotonic,
    sleep: t.Callable[[float], None] = time.sleep,
) -> Outcome:
    """Wait until all conditions let the batch begin at the same time, or one stops the run.

    C(on_wait) is called once for each reason to wait, C(display) again from time to time.
    """
    waited: dict[str, float] = {}
    displayed, displayed_at = "", 0.0
    while True:
        answer = next((found for ask in conditions if (found := ask()) != GO), GO)
        if not answer.wait:
            notes = [f"waited {seconds:.0f} s: {why}" for why, seconds in waited.items()]
            return Outcome(answer.stop, notes)
        now = clock()
        if answer.wait not in waited:
            on_wait(answer.wait)
        if answer.wait != displayed or now - displayed_at >= _SAY_EVERY_S:
            display(f"waits: {answer.wait}")
            displayed, displayed_at = answer.wait, now
        sleep(POLL_S)
        waited[answer.wait] = waited.get(answer.wait, 0.0) + clock() - now
