# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Figures of a restart: the durations of its steps, and the losses of flows and packets."""

from __future__ import annotations

import typing as t

JsonObject = t.Mapping[str, t.Any]


def measured(results: t.Iterable[JsonObject]) -> list[JsonObject]:
    """Return the counters in the results of modules, by time."""
    found = {}
    for result in results:
        services = result.get("services")
        for item in [services[0]["measured"]] if services else result.get("measured", []):
            found[item["at"]] = item
    return [found[at] for at in sorted(found)]


def figures(journal: JsonObject | None, readings: list[JsonObject]) -> dict[str, t.Any]:
    """Return the figures of the table. Flows are lost if their instance was stopped while it had them."""
    steps = [] if journal is None else journal["steps"]
    drain: JsonObject = next((item for item in reversed(steps) if item["step"] == "drain"), {})
    # after a rollback it is the new instance that was stopped
    last: JsonObject = next((i for i in reversed(steps) if i["step"] in ("drain", "drain_new")), {})
    carried = drain.get("evidence", {}).get("drain", {}).get("flows_most")
    return {
        "steps": [
            {key: step[key] for key in ("step", "started", "ended", "result", "reason")}
            for step in steps
        ],
        "switch_s": None if journal is None else journal["promotion_window_s"],
        "drain_s": _duration(drain),
        "flows_carried": None if carried is None else max(0, carried - (_left(drain) or 0)),
        "flows_lost": _lost(last),
        "moved": _moved(readings) if readings else None,
        "dropped": readings[-1]["dropped"] if readings else None,
    }


def _duration(drain: JsonObject) -> float | None:
    """Return how long a drain has taken, without the hold after it; None: it continues."""
    held = drain.get("evidence", {}).get("hold")
    ended = held["begun"] if held else drain.get("ended")
    return ended - drain["started"] if ended else None


def _moved(readings: list[JsonObject]) -> int:
    """Return the count of answers on other generations' flows since the first reading; a new group counts from zero."""
    return sum(
        max(0, later["moved"] - earlier["moved"]) for earlier, later in zip(readings, readings[1:])
    )


def _lost(drain: JsonObject) -> int | None:
    """Return the count of flows that were cut off by the end of a drain; None: unknown, or it continues."""
    if not drain.get("result"):
        return 0 if "hold" in drain.get("evidence", {}) else None
    return _left(drain) if drain["result"] == "done" else 0


def _left(drain: JsonObject) -> int | None:
    """Return the count of flows that remained at the end of a drain, as its policy may permit; None: unknown."""
    evidence = drain["evidence"]
    if "drain" not in evidence and evidence.get("drained", True):
        return 0  # there was no instance
    flows: int | None = evidence.get("drain", {}).get("flows")
    return flows


def shares(readings: list[JsonObject], later: list[JsonObject]) -> dict[str, float] | None:
    """Return the share of packets that went wrong, before the restart and since the end of its first task.

    After it, the worst share of all readings, so that the reason for a stop does not disappear.
    """
    if len(readings) < 3:
        return None
    first, base = readings[:2]
    return {
        "before": (first["errors"] + first["moved"]) / max(1, first["processed"]),
        "after": max(_wrong(base, reading) for reading in (*later, readings[-1])),
    }


def _wrong(base: JsonObject, later: JsonObject) -> float:
    """Return the share of packets that went wrong between two moments."""
    wrong: int = sum(max(0, later[name] - base[name]) for name in ("errors", "moved", "dropped"))
    processed: int = later["processed"] - base["processed"]
    return wrong / max(1, wrong, processed)
