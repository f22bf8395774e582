# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import _rollout, _table

display = Display()


class ActionModule(ActionBase):  # type: ignore[misc]  # Ansible has no types
    """Prints the table; nothing runs on a host."""

    BYPASS_HOST_LOOP = True
    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        """Return the sums."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _valid, arguments = self.validate_argument_spec(
            argument_spec={
                "service": {"type": "str", "required": True},
                "hosts": {"type": "list", "elements": "dict", "required": True},
                "reason": {"type": "str", "default": ""},
            }
        )
        entries = arguments["hosts"]
        for line in _table.render(arguments["service"], entries, arguments["reason"]):
            display.display(line)
        result.update(changed=False, counts=_rollout.counts(entries))
        return result
