# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible_collections.udpgrm.fleet.plugins.plugin_utils import (
    _batches,
    _result,
    _rollout,
    _variables,
)


class FilterModule:
    """The filters of the playbooks and the role for batches and variables."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filters by name."""
        return {
            "definitions": definitions,
            "misspelt": _variables.misspelt,
            "rollout_batches": _batches.parse,
            "rollout_first": first,
            "rollout_restarts": restarts,
        }


def definitions(
    services: t.Iterable[t.Mapping[str, t.Any]], keys: t.Iterable[str]
) -> dict[str, dict[str, t.Any]]:
    """Return the definitions of entries of C(udpgrm_services), by name; C(keys) are those of a definition."""
    wanted = list(keys)
    return {
        str(entry["name"]): {
            "instances": {"unit": f"{entry['name']}@.service"},
            **{key: entry[key] for key in wanted if key in entry},
        }
        for entry in services
    }


def first(hostvars: t.Any, batch: t.Iterable[str]) -> str:
    """Return the first host of a batch that its plan lets meet hooks; empty: there is none."""
    plans = ((name, hostvars[name].get(_rollout.PLAN) or {}) for name in batch)
    return next((str(name) for name, plan in plans if plan.get("hooked")), "")


def restarts(hostvars: t.Any, host: str) -> list[dict[str, t.Any]]:
    """Return the restarts of a host in the run that it has begun, as in the report: one for each service."""
    begun = hostvars[host].get(_rollout.BEGIN) or {}
    if "run" not in begun:
        return []
    entries = _rollout.collect(hostvars, [host], begun["services"], begun["run"]["id"])
    return [_result.host(entry) for entry in entries]
