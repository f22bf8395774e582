# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Ansible callback: writes when each host's working generation was set.

Appends a JSON object ``{"host", "called", "returned"}`` per host to the file named by
UDPGRM_SWITCH_TIMES; times are seconds of CLOCK_MONOTONIC.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: switch_times
type: notification
short_description: Writes when each host's working generation was set
description: For the demo, which tells old flows from new ones by these times.
"""


def _promotion(outcome: dict[str, Any]) -> tuple[float, float] | None:
    """Return begin and end of the restart's promotion, since the epoch."""
    if not outcome.get("changed"):
        return None
    for step in outcome["restart"]["steps"]:
        if step["step"] == "promote" and step["result"] == "done":
            return step["evidence"]["begin"], step["ended"]
    return None


class CallbackModule(CallbackBase):  # type: ignore[misc]  # Ansible has no types
    """Notes the step of `udpgrm.fleet.rolling_restart` that changed a working generation.

    The times are the host's, which shares its clocks with this machine.
    """

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "switch_times"
    CALLBACK_NEEDS_ENABLED = True

    def v2_runner_on_ok(self, result: Any) -> None:
        """Write a line when the task was the one that switches."""
        if not result._task.action.endswith("udpgrm_rollout"):
            return
        for step in result._result.get("steps", []):
            found = _promotion(step["result"]) if step["step"] == "switch" else None
            if found is not None:
                self._write(result._host.get_name(), found)

    @staticmethod
    def _write(host: str, found: tuple[float, float]) -> None:
        ahead = time.monotonic() - time.time()
        entry = {
            "host": host,
            "called": found[0] + ahead,
            "returned": found[1] + ahead,
        }
        with open(os.environ["UDPGRM_SWITCH_TIMES"], "a", encoding="utf-8") as file:
            print(json.dumps(entry), file=file)
