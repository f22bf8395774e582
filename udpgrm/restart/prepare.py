# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The preconditions of a restart, for `--check` and for its first step."""

from __future__ import annotations

from collections.abc import Iterable

from udpgrm.restart import memory, plan
from udpgrm.restart.groups import Groups
from udpgrm.restart.instances import Instances
from udpgrm.restart.journal import waiting_for_their_stop
from udpgrm.restart.plan import Generations, Refused
from udpgrm.restart.strays import Stray
from udpgrm.services.definition import Service


def check(service: Service, groups: Groups, instances: Instances) -> Generations:
    """Return the generations of a restart that would begin now. Raises Refused, SystemdError."""
    instances.check()
    # an earlier restart would stop the new instance instead of its old one
    waiting = waiting_for_their_stop(service.name)
    facts = groups.facts()
    chosen = plan.choose(
        facts,
        lambda number: number in waiting or instances.is_alive(number),
        # a decoy's next server has no generation yet
        lambda number: service.instances.kind == "template" and instances.is_alive(number),
    )
    if chosen.old is not None and not instances.is_alive(chosen.old):
        raise Refused(
            f"generation {chosen.old} serves, but {instances.name(chosen.old)} does not run: "
            "it could not be stopped after the drain. Find what runs it (udpgrm doctor), stop that"
        )
    successor = None if chosen.old is None else waiting.get(chosen.old)
    if successor is not None and instances.is_alive(successor):
        raise Refused(
            f"generation {chosen.old} is active again, which an earlier restart is to stop, and "
            f"{instances.name(successor)} runs, too: make {successor} active (udpgrm working-gen), "
            "or stop it"
        )
    refuse_too_many(service, groups, instances, waiting)
    if chosen.old is not None and any(chosen.old in group.living for group in facts):
        memory.refuse_too_little(service, instances, chosen.old)
    groups.check_dissectors(service)
    refuse_strays(service, groups.strays())
    groups.refuse_second_groups()
    return chosen


def refuse_strays(service: Service, strays: list[Stray]) -> None:
    """Raise Refused for sockets that would lose their packets to a restart."""
    if not strays:
        return
    first = strays[0]
    if first.pid == 1:
        raise Refused(
            f"{first.address}: systemd has a socket there for a socket unit (systemctl "
            "list-sockets), and would give it to every instance: stop that unit; a server that "
            "takes sockets from systemd gets them by udpgrm activate (docs/activate.md)"
        )
    others = f" (and {len(strays) - 1} more)" if len(strays) > 1 else ""
    how = f"udpgrm adopt {service.name} --unit {first.unit}" if first.unit else "stop it"
    raise Refused(
        f"{first.address}: a socket of {first} is in no generation{others}: "
        f"what it serves would be cut off. To move it gracefully: {how}"
    )


def refuse_too_many(
    service: Service, groups: Groups, instances: Instances, waiting: Iterable[int]
) -> None:
    """Raise Refused if one more instance would be more than the definition permits."""
    most = service.drain.max_instances
    if most is None:
        return
    living = {number for facts in groups.facts() for number in facts.living}
    living |= {number for number in waiting if instances.is_alive(number)}
    if len(living) >= most:
        names = ", ".join(instances.name(number) for number in sorted(living))
        raise Refused(
            f"{names} run, and drain.max_instances is {most}: wait until one of them has drained "
            "(udpgrm status), or stop it"
        )
