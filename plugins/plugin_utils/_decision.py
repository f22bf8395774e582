# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The decision whether a batch may begin: brake, maintenance windows, gates, approval, in this order."""

from __future__ import annotations

import datetime
import typing as t

from ansible.errors import AnsiblePromptInterrupt, AnsiblePromptNoninteractive
from ansible.utils.display import Display
from ansible_collections.udpgrm.fleet.plugins.plugin_utils import (
    _brake,
    _conditions,
    _gates,
    _windows,
)
from ansible_collections.udpgrm.fleet.plugins.plugin_utils._approval import Approval
from ansible_collections.udpgrm.fleet.plugins.plugin_utils._conditions import Answer
from ansible_collections.udpgrm.fleet.plugins.plugin_utils._figures import JsonObject

display = Display()
_APPROVED_ALL = "all further batches are approved"


def decide(
    settings: JsonObject,
    batch: t.Sequence[str],
    is_first: bool,
    notes: t.Collection[str],
    on_wait: t.Callable[[str], None],
) -> dict[str, t.Any]:
    """Return C(stop), empty if the batch may begin, and C(notes) for the report; C(notes) are those of earlier batches.

    C(on_wait) is called with each new reason to wait. The first batch needs no approval: the operator has just begun
    the run.
    """
    found: list[str] = []
    conditions: list[_conditions.Condition] = []
    if settings["brake"]:
        conditions.append(lambda: _brake.read(settings["brake"]))
    if settings["windows"]:
        conditions.append(lambda: _window(settings))
    if settings["gates"] and settings["expedite"]:
        names = ", ".join(gate.name for gate in settings["gates"])
        found.append(f"gates are skipped (udpgrm_expedite): {names}")
        display.display(found[-1])
    conditions += [watch.ask for watch in [gates(settings)] if watch]
    approval = None
    if settings["approval"] and not is_first and _APPROVED_ALL not in notes:
        question = f"Begin the batch of {', '.join(batch)}?"
        how, timeout = settings["approval"], settings["approval_timeout"]
        approval = Approval(how, question, batch[0], timeout, _prompt)
        conditions.append(approval.ask)
    outcome = _conditions.await_all(conditions, display.display, on_wait)
    if approval and approval.word == "all":
        found.append(_APPROVED_ALL)
    return {"stop": outcome.stop, "notes": [*found, *outcome.notes]}


def gates(settings: JsonObject) -> _gates.Watch | None:
    """Return the watch of the gates; None: there are none, or they are skipped."""
    if not settings["gates"] or settings["expedite"]:
        return None
    return _gates.Watch(settings["gates"], settings["gate_wait"])


def _window(settings: JsonObject) -> Answer:
    why = _windows.closed(settings["windows"], datetime.datetime.now(datetime.timezone.utc))
    waits = settings["outside_windows"] == "wait"
    return Answer(wait=why if waits else "", stop="" if waits else why)


def _prompt(question: str, seconds: int) -> str:
    try:
        return bytes(display.prompt_until(question, seconds=seconds)).decode(errors="replace")
    except (AnsiblePromptNoninteractive, AnsiblePromptInterrupt) as error:
        raise EOFError from error
