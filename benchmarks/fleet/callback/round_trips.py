# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Ansible callback: writes which modules ran on which host, and how long tasks took.

Appends JSON objects to the file named by UDPGRM_ROUND_TRIPS; times are seconds of
CLOCK_MONOTONIC:

    {"trip": MODULE, "host", "task", "begin", "end", "commands", "baked"}
    {"task": NAME, "play", "begin"}
    {"restart": JOURNAL, "host"}
    {"over": TIME}

A trip is one execution of a module on a host, also of several in one task. commands counts
what was run through the connection for it: more than one is more than one round trip. baked:
the seconds of it that the module has waited on the host before it checked the services.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: round_trips
type: notification
short_description: Writes which modules ran on which host
description: For the benchmark of fleets, which counts them.
"""


def _write(entry: dict[str, Any]) -> None:
    # one write each: workers append to the same file
    with open(os.environ["UDPGRM_ROUND_TRIPS"], "ab", buffering=0) as file:
        file.write(json.dumps(entry).encode() + b"\n")


def _watch_actions() -> None:
    """Note every module that an action executes.

    Callbacks are told of tasks only, and an action may execute its module many times.
    Workers are forked, so they have this, too.
    """
    execute, command = ActionBase._execute_module, ActionBase._low_level_execute_command
    commands = 0

    def counted(self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal commands
        commands += 1
        return command(self, *arguments, **options)

    def noted(self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal commands
        commands = 0
        begin = time.monotonic()
        answer: Any = {}
        try:
            answer = execute(self, *arguments, **options)
            return answer
        finally:
            variables = options.get("task_vars") or {}
            delegated = self._task.delegate_to
            is_baked = "inspected" in answer
            _write(
                {
                    "trip": options.get("module_name") or self._task.action,
                    "host": delegated or variables.get("inventory_hostname"),
                    "task": self._task.get_name(),
                    "begin": begin,
                    "end": time.monotonic(),
                    "commands": commands,
                    "baked": options["module_args"]["rollout"]["bake"] if is_baked else 0,
                }
            )

    ActionBase._execute_module = noted
    ActionBase._low_level_execute_command = counted


class CallbackModule(CallbackBase):  # type: ignore[misc]  # Ansible has no types
    """Notes tasks, modules, and the journals of restarts."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "round_trips"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        _watch_actions()

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Note when a task begins; the one before is over."""
        _write({"task": task.get_name(), "play": task.play.get_name(), "begin": time.monotonic()})

    def v2_runner_on_ok(self, result: Any) -> None:
        """Note the journals of restarts; the last one of a host is complete."""
        for step in result._result.get("steps", []):
            journal = step["result"].get("restart")
            if journal:
                _write({"restart": journal, "host": result._host.get_name()})

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Note the end."""
        _write({"over": time.monotonic()})
