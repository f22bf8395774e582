# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The wait for a drain: one short module call after the other, and a line of progress for each."""

from __future__ import annotations

import time
import typing as t

from ansible.utils.display import Display
from ansible_collections.udpgrm.fleet.plugins.plugin_utils._figures import JsonObject
from ansible_collections.udpgrm.fleet.plugins.plugin_utils._progress import Progress

display = Display()
SHORTEST = 2
LONGEST = 5

# Runs udpgrm_drain with these arguments.
Execute = t.Callable[[dict[str, t.Any]], JsonObject]


def wait(
    execute: Execute,
    host: str,
    arguments: JsonObject,
    interval: int,
    limit: int | None,
    check: bool,
) -> dict[str, t.Any]:
    """Wait, and return the module's last answer with all samples; failed, if the wait failed."""
    began = time.monotonic()
    progress = Progress(host, arguments)
    measured: list[t.Any] = []
    while True:
        remaining = None if limit is None else limit - (time.monotonic() - began)
        piece = interval if remaining is None else max(0, min(interval, int(remaining)))
        answer = execute({**arguments, "timeout": piece, "interval": interval})
        measured += answer.get("measured", [])
        elapsed = time.monotonic() - began
        over = limit is not None and elapsed >= limit
        if answer.get("failed") or answer.get("unreachable") or answer.get("skipped"):
            break
        if answer["drained"] or over or check:
            break
        display.display(progress.line(answer, elapsed, limit))
    result = {**answer, "measured": measured, "elapsed": round(time.monotonic() - began, 1)}
    if check or result.get("failed") or "drained" not in answer:
        return result
    problem = progress.problem(answer, elapsed)
    if problem:
        result.update(failed=True, msg=problem)
    return result
