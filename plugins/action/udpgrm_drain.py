# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import time
import typing as t

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.udpgrm.fleet.plugins.plugin_utils._progress import Progress

display = Display()
_SHORTEST = 2
_LONGEST = 5
# Of a generation; a restart has a limit of its own.
_DEFAULT_LIMIT = 300


class ActionModule(ActionBase):  # type: ignore[misc]  # Ansible has no types
    """Calls the module for one interval after the other, and says what it saw."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        """Wait, and return the module's last answer with all looks."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        try:
            interval, limit = self._numbers(arguments)
        except (TypeError, ValueError):  # the module refuses it
            result.update(
                self._execute_module(
                    module_name="udpgrm.fleet.udpgrm_drain",
                    module_args=arguments,
                    task_vars=task_vars,
                )
            )
            return result
        began = time.monotonic()
        progress = Progress(str((task_vars or {}).get("inventory_hostname", "")), arguments)
        measured: list[t.Any] = []
        while True:
            left = None if limit is None else limit - (time.monotonic() - began)
            piece = interval if left is None else max(0, min(interval, int(left)))
            answer = self._execute_module(
                module_name="udpgrm.fleet.udpgrm_drain",
                module_args={**arguments, "timeout": piece, "interval": interval},
                task_vars=task_vars,
            )
            measured += answer.get("measured", [])
            elapsed = time.monotonic() - began
            over = limit is not None and elapsed >= limit
            if answer.get("failed") or answer.get("unreachable") or answer.get("skipped"):
                break
            if answer["drained"] or over or self._task.check_mode:
                break
            display.display(progress.line(answer, elapsed, limit))
        result.update(answer, measured=measured, elapsed=round(time.monotonic() - began, 1))
        if self._task.check_mode or result.get("failed") or "drained" not in answer:
            return result
        problem = progress.problem(answer, elapsed)
        if problem:
            result.update(failed=True, msg=problem)
        return result

    def _numbers(self, arguments: dict[str, t.Any]) -> tuple[int, int | None]:
        """Interval and limit. Raises TypeError, ValueError for what is no number."""
        default = _DEFAULT_LIMIT if arguments.get("address") is not None else None
        limit, interval = arguments.get("timeout"), arguments.get("interval")
        return (
            _LONGEST if interval is None else max(_SHORTEST, min(_LONGEST, int(interval))),
            default if limit is None else int(limit),
        )
