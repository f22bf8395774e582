# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import _waiting

# Seconds for a generation; a restart's definition has a limit of its own.
_DEFAULT_LIMIT = 300


class ActionModule(ActionBase):  # type: ignore[misc]  # Ansible has no types
    """Calls the module for one interval after the other, and displays the progress."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        """Wait, and return the module's last answer with all samples."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)

        def execute(given: dict[str, t.Any]) -> dict[str, t.Any]:
            answer: dict[str, t.Any] = self._execute_module(
                module_name="udpgrm.fleet.udpgrm_drain", module_args=given, task_vars=task_vars
            )
            return answer

        try:
            interval, limit = self._numbers(arguments)
        except (TypeError, ValueError):  # the module refuses it
            return {**result, **execute(arguments)}
        host = str((task_vars or {}).get("inventory_hostname", ""))
        check = bool(self._task.check_mode)
        return {**result, **_waiting.wait(execute, host, arguments, interval, limit, check)}

    def _numbers(self, arguments: dict[str, t.Any]) -> tuple[int, int | None]:
        """Return interval and limit. Raises TypeError, ValueError unless they are numbers."""
        default = _DEFAULT_LIMIT if arguments.get("address") is not None else None
        limit, interval = arguments.get("timeout"), arguments.get("interval")
        shortest, longest = _waiting.SHORTEST, _waiting.LONGEST
        return (
            longest if interval is None else max(shortest, min(longest, int(interval))),
            default if limit is None else int(limit),
        )
