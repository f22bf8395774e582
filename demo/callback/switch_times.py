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


def _switched(outcome: dict[str, Any]) -> bool:
    arguments = outcome.get("invocation", {}).get("module_args", {})
    return bool(outcome.get("changed")) and arguments.get("working_gen") is not None


class CallbackModule(CallbackBase):  # type: ignore[misc]  # Ansible has no types
    """Notes the task of `udpgrm.fleet.udpgrm_group` that changed a working generation."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "switch_times"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._called: dict[tuple[str, str], float] = {}

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """Note when a task is about to run on a host."""
        self._called[host.get_name(), task._uuid] = time.monotonic()

    def v2_runner_on_ok(self, result: Any) -> None:
        """Write a line when the task was the one that switches."""
        returned = time.monotonic()
        host, task = result._host.get_name(), result._task
        called = self._called.pop((host, task._uuid))
        # a task with a loop has a result per address
        outcomes = result._result.get("results", [result._result])
        if not task.action.endswith("udpgrm_group") or not any(map(_switched, outcomes)):
            return
        with open(os.environ["UDPGRM_SWITCH_TIMES"], "a", encoding="utf-8") as file:
            print(json.dumps({"host": host, "called": called, "returned": returned}), file=file)
