# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The bake of a batch: a wait between restarts and inspections, in which one host's worker asks the gates for all."""

from __future__ import annotations

import time

from ansible_collections.udpgrm.fleet.plugins.plugin_utils import _decision, _gates, _steps
from ansible_collections.udpgrm.fleet.plugins.plugin_utils._figures import JsonObject
from ansible_collections.udpgrm.fleet.plugins.plugin_utils._once import once

#: Seconds that a host bakes itself. The control node waits in longer bakes, and ends them when a gate shuts.
_LONGEST_THERE = 30


def wait(settings: JsonObject, batch: str) -> str:
    """Wait while one host watches the gates for all of its batch; return why the run stops, empty if it does not."""
    began, bake = time.monotonic(), settings["bake"]
    watch = _decision.gates(settings)
    if watch is not None:
        outcome = once(f"{batch} gates", lambda: {"stop": watch.during(bake)})
        if outcome["stop"]:
            return str(outcome["stop"])
    time.sleep(max(0.0, bake - (time.monotonic() - began)))
    return ""


def restart(part: _steps.Host, settings: JsonObject, batch: str) -> str:
    """Restart the services of a host, bake and inspect; return why the run stops.

    While the host bakes a short bake itself, which saves a round trip, a thread watches the gates.
    """
    how = settings["release"], settings["other_rollout"]
    if settings["bake"] <= _LONGEST_THERE:
        with _gates.Background(_decision.gates(settings), batch) as watch:
            if part.switch(*how, bake=settings["bake"]):
                return watch.end()
    else:
        part.switch(*how)
    switched = [] if part.check else part.switched()
    stop = wait(settings, batch) if switched else ""
    part.inspect(switched)
    return stop
