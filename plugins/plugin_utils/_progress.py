# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Messages of progress while a generation drains."""

from __future__ import annotations

import typing as t

from ansible_collections.udpgrm.fleet.plugins.plugin_utils._figures import JsonObject


class Progress:
    """The progress of one host. C(arguments) are the task's."""

    def __init__(self, host: str, arguments: t.Mapping[str, t.Any]) -> None:
        self._host = host
        self._what = arguments.get("service") or arguments.get("address")
        self._first: tuple[float, int] | None = None

    def line(self, answer: JsonObject, elapsed: float, limit: float | None) -> str:
        """Return a line: whether the time was up, flows left, their trend, the time."""
        parts = [f"{self._host}: {self._what} generation {answer['generation']}"]
        if (answer.get("restart") or {}).get("step") in ("stop", "stop_new"):
            parts[0] += " is being stopped"
        flows = answer["flows"]
        if flows is None:
            parts.append("flows not counted")
        else:
            parts.append(f"{flows} flows left")
            parts += self._trend(flows, elapsed)
        parts.append(f"{elapsed:.0f} s" + ("" if limit is None else f" of at most {limit:.0f} s"))
        return ", ".join(parts)

    def _trend(self, flows: int, elapsed: float) -> list[str]:
        if self._first is None:
            self._first = (elapsed, flows)
            return []
        since, before = self._first
        if flows >= before:
            return []
        rate = (before - flows) / (elapsed - since)
        return [f"about {flows / rate:.0f} s more"]

    def problem(self, answer: JsonObject, elapsed: float) -> str:
        """Return why the wait failed; empty if it did not."""
        if not answer["drained"]:
            flows = "" if answer["flows"] is None else f": {answer['flows']} flows left"
            return f"generation {answer['generation']} has not drained in {elapsed:.0f} s{flows}"
        journal = answer.get("restart")
        # an unfinished restart holds the drained instance
        if journal is None or journal["outcome"] in (None, "finished"):
            return ""
        reasons = [step["reason"] for step in journal["steps"] if step["reason"]]
        end = "was rolled back" if journal["outcome"] == "rolled_back" else "has failed"
        return f"{self._what}: the restart {end}: {reasons[0] if reasons else journal['state']}"
