# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible_collections.udpgrm.fleet.plugins.plugin_utils import _batches, _page, _rollout


class FilterModule:
    """What the playbooks know of batches and their hosts, and draw."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filters by name."""
        return {
            "rollout": _rollout.collect,
            "rollout_batches": _batches.parse,
            "rollout_stop": _rollout.reason_to_stop,
            "rollout_verdict": _rollout.verdicts,
            "rollout_page": _page.layout,
        }
