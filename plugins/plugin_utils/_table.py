# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The table at the end of a rollout."""

from __future__ import annotations

import typing as t

from ansible_collections.udpgrm.fleet.plugins.plugin_utils._figures import JsonObject
from ansible_collections.udpgrm.fleet.plugins.plugin_utils._result import counted
from ansible_collections.udpgrm.fleet.plugins.plugin_utils._rollout import label


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _seconds(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f} s"


def _way(entry: JsonObject) -> str:
    old, new = entry["from_generation"], entry["to_generation"]
    if new is None:
        return "-"
    return str(new) if old in (None, new) else f"{old} -> {new}"


_COLUMNS: list[tuple[str, t.Callable[[JsonObject], str]]] = [
    ("", lambda e: e["status"].replace("_", " ")),
    ("generations", _way),
    ("switch", lambda e: _seconds(e["switch_s"], 3)),
    ("drain", lambda e: _seconds(e["drain_s"], 1)),
    ("carried", lambda e: _number(e["flows_carried"])),
    ("lost", lambda e: _number(e["flows_lost"])),
    ("moved", lambda e: _number(e["moved"])),
    ("dropped", lambda e: _number(e["dropped"])),
]


def render(
    entries: t.Sequence[JsonObject], reason: str, notes: t.Sequence[str], summary: str
) -> list[str]:
    """Return a line for each host and service, the problems, the notes, the sums of each service, and the summary."""
    services = list(dict.fromkeys(str(entry["service"]) for entry in entries))
    keys = ["host", "service"] if len(services) > 1 else ["host"]
    rows = [[*keys, *(title for title, _value in _COLUMNS)]]
    rows += [
        [*(str(entry[key]) for key in keys), *(value(entry) for _title, value in _COLUMNS)]
        for entry in entries
    ]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    lines += [f"{label(e, entries)}: {e['problem']}" for e in entries if e["problem"]]
    lines += notes
    if reason:
        lines.append(f"stopped: {reason}")
    for service in services:
        mine = [entry for entry in entries if entry["service"] == service]
        lines.append(f"{service}: {counted(mine)}")
    if len(services) > 1:
        return [*lines, summary]
    return [*lines[:-1], f"{lines[-1]}; {summary}"]
