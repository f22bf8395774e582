# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The budget of a restart: how many packets may go wrong while it runs."""

from __future__ import annotations

from typing import Any

from udpgrm.restart.groups import CROSSED, MISDIRECTED, Groups
from udpgrm.restart.journal import Journal
from udpgrm.restart.machine import Step
from udpgrm.services.definition import Budget

#: Without a budget: sends on flows of the other instance that are called chance, and from when on.
_CONFLICTS = 10
_CONFLICT_SHARE = 0.01
_SETTLING_S = 2.0


class OverBudget(Exception):
    """Raised when a restart exceeds its budget; the message says which limit."""


def check(budget: Budget, groups: Groups, journal: Journal, evidence: dict[str, Any]) -> None:
    """Raise OverBudget when more than the budget was spent, and add that to the evidence.

    Counts from the reading before the first step, or if no generation was active then, from
    before the promotion.
    """
    if budget.misdirected is None and budget.dropped is None:
        return
    taken = journal.plan
    first = journal.from_generation is None
    spent = groups.spent((taken["promotion"] if first else taken)["reading"])
    total = {
        "misdirected": sum(spent[name] for name in MISDIRECTED),
        "dropped": spent["dropped"],
    }
    evidence["budget"] = total
    for name, limit in (("misdirected", budget.misdirected), ("dropped", budget.dropped)):
        if limit is not None and total[name] > limit:
            raise OverBudget(f"{total[name]} packets {name}, the budget is {limit}")


def check_conflicts(
    budget: Budget, groups: Groups, journal: Journal, evidence: dict[str, Any]
) -> None:
    """Raise OverBudget if the new instance sends on flows of the old one, more than by chance.

    A client that was between two packets at the promotion may count once. A peer that both
    instances send to (a fixed upstream) counts again and again, and its answers go astray.
    """
    spent = groups.spent(journal.plan["promotion"]["reading"])
    count, packets = spent[CROSSED], spent["packets"]
    evidence["conflicts"] = count
    if count:
        evidence["reason"] = f"{count} sends were on flows of the other instance"
    if budget.misdirected is not None or journal.last(Step.PROMOTE) is None:
        return
    is_early = journal.since_promotion() < _SETTLING_S
    if not is_early and count > max(_CONFLICTS, packets * _CONFLICT_SHARE):
        raise OverBudget(
            f"{count} of {packets} packets since the promotion were sent on flows of the "
            "other instance: does the server ask a fixed peer from its own socket? "
            "(bpf/dissectors/flow/README.md; budget.misdirected allows it)"
        )
