# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The result of a rollout, as a document for programs and as a sentence for people.

The document's schema is playbooks/files/udpgrm-report.schema.json.
"""

from __future__ import annotations

import time
import typing as t

from ansible_collections.udpgrm.fleet.plugins.plugin_utils import _run
from ansible_collections.udpgrm.fleet.plugins.plugin_utils._figures import JsonObject
from ansible_collections.udpgrm.fleet.plugins.plugin_utils._rollout import (
    BAD,
    counts,
    is_worse,
    verdicts,
)

SCHEMA = 3
_HOST_KEYS = (
    "host",
    "service",
    "status",
    "problem",
    "from_generation",
    "to_generation",
    "drains",
    "switch_s",
    "drain_s",
    "flows_carried",
    "flows_lost",
    "moved",
    "dropped",
)
_AGAIN = "run the same command again, which passes over hosts that are done"
_LIMITED = "run the same command with --limit to the hosts that are left"


def state(entries: t.Sequence[JsonObject], tolerance: float, reason: str) -> str:
    """Return the state of a run that has ended: succeeded, planned, failed, or stopped before all hosts were reached."""
    statuses = {entry["status"] for entry in entries}
    if verdicts(entries, tolerance) or reason:
        return "stopped" if "untouched" in statuses else "failed"
    if "untouched" in statuses:
        return "failed"
    return "planned" if "planned" in statuses else "succeeded"


def sentence(
    entries: t.Sequence[JsonObject], tolerance: float, reason: str, reboots: bool = False
) -> str:
    """Return what happened, and what to do next."""
    again = _LIMITED if reboots else _AGAIN
    total = _hosts(entries)
    bad = _hosts(entry for entry in entries if entry["status"] in BAD and not entry["went_back"])
    worse = _hosts(entry for entry in entries if is_worse(entry, tolerance))
    worse = [host for host in worse if host not in bad]
    untouched = _hosts(entry for entry in entries if entry["status"] == "untouched")
    how = state(entries, tolerance, reason)
    if how == "planned":
        what = "rebooted" if reboots else "restarted or are done already"
        return f"{_of(total, total)} would be {what}: run it without --check"
    if how == "succeeded":
        if reboots:
            return f"{_of(total, total)} rebooted and serving, nothing is left to do"
        if all(entry["status"] == "unchanged" for entry in entries):
            return f"{_of(total, total)} ran the release already, nothing was done"
        verb = "run" if len(total) > 1 else "runs"
        return f"{_of(total, total)} {verb} the release, nothing is left to do"
    drain = _hosts(
        entry for entry in entries if entry["drains"] and entry["status"] != "rolled_back"
    )
    back = f" (or go back with udpgrm.fleet.rollback: {', '.join(drain)} can)" if drain else ""
    if not bad and not worse and untouched:
        what = "rebooted" if reboots else "restarted"
        return f"{_of(untouched, total)} not {what}: {again}{back}"
    if not bad and not worse:
        return f"all hosts were reached before the run was stopped: {reason}{back}"
    parts = []
    if bad:
        parts.append(f"{_of(bad, total)} failed")
    if worse:
        parts.append(f"{_of(worse, total)} drop or misdirect more packets than before")
    if untouched:
        parts.append(f"{len(untouched)} not begun")
    those = "them" if len({*bad, *worse}) > 1 else "it"
    return f"{', '.join(parts)}: repair {those}, then {again}{back}"


def document(
    settings: JsonObject,
    entries: t.Sequence[JsonObject],
    reason: str,
    notes: t.Sequence[str],
    ended: bool,
) -> dict[str, t.Any]:
    """Return the result as it is written to the file."""
    tolerance = settings["max_error_share"]
    return {
        "schema": SCHEMA,
        "services": list(settings["services"]),
        "release": settings["release"],
        "by": _run.by(),
        "at": time.time(),
        "state": state(entries, tolerance, reason) if ended else "running",
        "reason": reason,
        "notes": list(notes),
        "summary": sentence(entries, tolerance, reason, settings["reboots"]) if ended else "",
        "counts": counts(entries),
        "hosts": [host(entry) for entry in entries],
    }


def host(entry: JsonObject) -> dict[str, t.Any]:
    """Return what the document has of an entry."""
    return {key: entry[key] for key in _HOST_KEYS}


def counted(entries: t.Sequence[JsonObject]) -> str:
    """Return the number of entries by status as text, for those statuses that there are."""
    found = counts(entries).items()
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in found if count)


def _hosts(entries: t.Iterable[JsonObject]) -> list[str]:
    return list(dict.fromkeys(str(entry["host"]) for entry in entries))


def _of(some: t.Sequence[str], total: t.Sequence[str]) -> str:
    if len(some) == len(total):
        return f"all {len(total)} hosts" if len(total) > 1 else total[0]
    return f"{len(some)} of {len(total)} hosts ({', '.join(some)})"
