# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Adoption of a running unit without udpgrm support as a service's first generation."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import udpgrm.client as grm
from udpgrm import abi
from udpgrm.dissectors import kinds
from udpgrm.kernel import cgroups, netns, sockopt
from udpgrm.loader import hooks
from udpgrm.restart import adoption, former, host, limited, omitted, prepare, reuseport, systemd
from udpgrm.restart.former import Former
from udpgrm.restart.groups import Groups
from udpgrm.restart.instances import TemplateUnits
from udpgrm.restart.plan import GroupFacts, Refused
from udpgrm.services import init_script, unit_commands
from udpgrm.services.definition import Group, Service

_TIMEOUT_S = 10.0
_FEW = 4


@dataclass
class Migration:
    """The result of an adoption, done or planned. sockets: by address."""

    unit: str
    generation: int
    changed: bool
    sockets: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def adopt(service: Service, unit: str, pin_directory: Path, dry: bool) -> Migration:
    """Make a running unit the working generation of a service. Raises Refused, AdoptionError.

    dry: only return what would be done. A second adoption changes nothing.
    """
    if service.instances.kind != "template":
        raise Refused(f"{service.name}: only a service of template units can adopt another unit")
    for group in service.groups:
        if group.dissector is None and service.enrollment != "adopted":
            # the group gets its dissector now, and would refuse another one later
            raise Refused(
                f"{service.name}: its server may ask for any dissector at {group.address}: "
                "name the one in the definition (groups.dissector)"
            )
    TemplateUnits(service).check()  # early: the slice is read only after clients were moved
    groups = Groups(pin_directory, service.groups)
    cgroup = systemd.cgroup_of(unit)
    facts = groups.facts()
    done = _already(service, unit, facts)
    if done is not None:
        return done
    refuse_stop(unit)
    _refuse_triggers(unit)
    with _held(service, unit, cgroup) as held:
        generation = _generation(service, unit, facts)
        groups.check_dissectors(service)
        others = [one for one in groups.strays() if one.unit != unit]
        prepare.refuse_strays(service, others)
        found = {where: len(sockets) for where, sockets in held.items()}
        also = omitted.lasting(groups.omitted(cgroups.processes(cgroup)))
        notes = [*_notes(service, unit, also), *_missing(service, unit, found)]
        notes += limited.of_processes(cgroups.processes(cgroup))
        notes += limited.of_sockets({where: sockets[0] for where, sockets in held.items()})
        migration = Migration(unit, generation, True, found, notes)
        if not dry:
            groups.set_dissectors(service)
            _hook(pin_directory, cgroup)
            _share(held, migration, cgroup)
    if not dry:
        former.save(service.name, Former(generation, unit, host.current.monotonic()))
        groups.share_addresses(service)
        _enroll(service, groups, cgroup, migration)
    return migration


def serves(service: Service, unit: str) -> bool:
    """Return whether a running unit has a socket at one of a service's addresses."""
    pids = cgroups.processes(systemd.cgroup_of(unit))
    found = [adoption.bound_sockets(pids, group.address) for group in service.groups]
    for held in found:
        for _, sock in held:
            sock.close()
    return any(found)


def _already(service: Service, unit: str, facts: list[GroupFacts]) -> Optional[Migration]:
    """Return the result of an earlier adoption of the unit; None: there was none, or not all."""
    sockets = {one.address: one.living.get(one.working or 0, 0) for one in facts}
    numbers = {one.working for one in facts}
    number = facts[0].working
    if len(numbers) == 1 and number is not None and all(sockets.values()):
        if former.unit_of(service, number) == unit:
            return Migration(unit, number, False, sockets)
        raise Refused(
            f"{service.name} is served by generation {number} of "
            f"{former.unit_of(service, number)}: udpgrm restart {service.name} replaces it"
        )
    return None


def refuse_stop(unit: str) -> None:
    """Raise Refused if the unit's commands may harm the instance that has replaced it."""
    names = systemd.property_of(unit, "RuntimeDirectory").split()
    directories = [f"/run/{name}" for name in names]
    pid_directory = Path(systemd.property_of(unit, "PIDFile")).parent
    if Path("/run") in pid_directory.parents:  # instances have one of their own there
        directories.append(str(pid_directory))
    for key in ("ExecStop", "ExecStopPost"):
        for line in systemd.property_of(unit, key).splitlines():
            command = line.partition("argv[]=")[2].partition(" ; ignore_errors=")[0]
            program = Path(command.partition(" ")[0])
            if program.parent == init_script.DIRECTORY:
                _refuse_script(unit, program)
                continue
            reason = unit_commands.harm(key, command, directories) if command else None
            if reason is not None:
                raise Refused(
                    f"{unit}: {key}={command} {reason}, as the one that has replaced the unit: "
                    f"set {key}= in a drop-in (systemctl edit {unit})"
                )


def _refuse_script(unit: str, script: Path) -> None:
    """Raise Refused if an init script's stop ends processes by name, not by its PID file."""
    try:
        command = init_script.broad_stop(script.read_text(errors="replace"))
    except OSError:  # a removed script: systemd cannot run it either
        return
    if command is not None:
        raise Refused(
            f"{unit}: {script} stop ends processes by name ({command}), so that of the instance "
            "that has replaced the unit: set ExecStop= and KillMode=control-group in a drop-in "
            f"(systemctl edit {unit})"
        )


def _refuse_triggers(unit: str) -> None:
    """Raise Refused if systemd would start the unit again once it has been replaced."""
    triggers = systemd.property_of(unit, "TriggeredBy").split()
    active = [trigger for trigger in triggers if systemd.is_active(trigger)]
    if active:
        raise Refused(
            f"{unit}: {', '.join(active)} would start it again beside the instance that has "
            f"replaced it: disable and stop that first (systemctl disable --now {active[0]})"
        )


def _generation(service: Service, unit: str, facts: list[GroupFacts]) -> int:
    """Return the generation of the unit's instance, else the active one if it has no sockets."""
    serving = [one.address for one in facts if one.living.get(one.working or 0)]
    number = max(one.working or 0 for one in facts)
    if serving and former.unit_of(service, number) == unit and not _others(facts, number):
        return number  # adopted before the definition had all of the groups
    for candidate in {item for one in facts for item in one.living} | set(range(1, 32)):
        if service.instances.unit_of(candidate) == unit:
            number = candidate
    taken = [one.address for one in facts if number in one.living]
    instances = TemplateUnits(service)
    is_other = instances.name(number) != unit and instances.is_alive(number)
    if serving or taken or is_other:
        where = ", ".join(sorted({*serving, *taken})) or instances.name(number)
        raise Refused(f"{service.name}: generation {number} lives already: {where} (udpgrm list)")
    return number


def _others(facts: list[GroupFacts], number: int) -> bool:
    """Return whether another generation lives or is the working one somewhere."""
    return any(
        {*one.living, number if one.working is None else one.working} != {number} for one in facts
    )


@contextlib.contextmanager
def _held(service: Service, unit: str, cgroup: Path) -> Iterator[dict[str, list[socket.socket]]]:
    """Yield duplicates of the unit's sockets, by address. Raises Refused."""
    pids = cgroups.processes(cgroup)
    with contextlib.ExitStack() as stack:
        held = {}
        for group in service.groups:
            sockets = [sock for _, sock in adoption.bound_sockets(pids, group.address)]
            for sock in sockets:
                stack.enter_context(sock)
            if not sockets:
                raise Refused(
                    f"{unit} has no socket at {group.address}: "
                    f"it has {adoption.describe_bound(pids)}"
                )
            if any(sockopt.netns_cookie(sock) != netns.own_cookie() for sock in sockets):
                raise Refused(f"{unit} runs in another network namespace: run this in that one")
            held[group.address] = sockets
        yield held


def _notes(service: Service, unit: str, also: list[str]) -> Iterator[str]:
    """Yield what cannot be known of the flows that the unit has by now, and what is not adopted.

    also: addresses that it serves besides.
    """
    if also:
        yield (
            f"{unit} has sockets at {_first_few(also)}, too: name these as groups, unless its "
            "instances leave them alone: a restart fails if one binds them"
        )
    for group in service.groups:
        if group.protocol == "tcp":
            continue
        kind = kinds.DEFAULT if group.dissector is None else kinds.find(group.dissector.name)
        if kind.has_flow_table:
            yield (
                f"{group.address}: a client's flow is known once the server has sent to it again: "
                "restart when every client has got a packet"
            )
        elif kind.keeps_flows:
            yield (
                f"{group.address}: connections of {kind.name} that began without its cookies are "
                "new flows after the first restart"
            )


def _missing(service: Service, unit: str, found: dict[str, int]) -> Iterator[str]:
    """Yield where the unit has fewer sockets than the definition says."""
    for group in service.groups:
        count = found[group.address]
        if count < group.sockets:
            yield (
                f"{group.address}: {unit} has {count} of the {group.sockets} sockets that the "
                "definition says (groups.sockets): a restart fails unless its new instance has "
                f"{group.sockets}"
            )


def unknown_clients(service: Service, generation: Optional[int]) -> Optional[str]:
    """Return which clients of an adopted unit a restart would cut off now; None: none.

    generation: the one that serves. A client to which the unit has sent nothing since its adoption
    is known to no flow table. After the flow timeout it is no flow anyway.
    """
    former_unit = former.load(service.name)
    if former_unit is None or former_unit.generation != generation or not former_unit.adopted:
        return None
    age = host.current.monotonic() - former_unit.adopted
    left = max(_flow_timeout_s(group) for group in service.groups) - age
    if left <= 0:
        return None
    return (
        f"{former_unit.unit} was adopted {age:.0f} s ago: clients to which it has sent nothing "
        f"since lose their session in a restart; in {left:.0f} s there are none left"
    )


def _flow_timeout_s(group: Group) -> int:
    """Return for how long a group's flows last without a send; 0: it has no flow tables."""
    kind = kinds.DEFAULT if group.dissector is None else kinds.find(group.dissector.name)
    if group.protocol == "tcp" or not kind.has_flow_table:
        return 0
    value = kind.encode({} if group.dissector is None else group.dissector.parameters)
    timeout = kind.flow_timeout_s(value) or int(value.flow_timeout_s)
    return timeout or abi.DEFAULT_FLOW_TIMEOUT_S


def _first_few(addresses: list[str]) -> str:
    """Return some addresses for a message: those of single clients may be hundreds."""
    more = len(addresses) - _FEW
    return ", ".join(addresses[:_FEW]) + (f" and {more} more" if more > 0 else "")


def _hook(pin_directory: Path, cgroup: Path) -> None:
    hooked = {Path(path) for path in hooks.hooked_cgroups(pin_directory)}
    if not hooked.intersection((cgroup, *cgroup.parents)):
        hooks.install(pin_directory, cgroup, with_sendmsg=True)


def _share(held: dict[str, list[socket.socket]], migration: Migration, cgroup: Path) -> None:
    """Let others bind the addresses of sockets that are bound without SO_REUSEPORT.

    All get the option first: to the kernel a socket at any address conflicts with those at each.
    """
    pids = cgroups.processes(cgroup)
    alone = [
        (where, sock)
        for where, sockets in held.items()
        for sock in sockets
        if not reuseport.is_shared(sock)
    ]
    for _, sock in alone:
        reuseport.permit(sock, True)
    while alone:
        where, sock = alone[0]
        try:
            if sock.type == socket.SOCK_STREAM:
                reuseport.share_connections(pids, where)
            lost = reuseport.share(sock)
        except OSError as error:
            for _, left in alone:
                reuseport.permit(left, False)
            raise Refused(
                f"{where}: a socket is bound without SO_REUSEPORT, which cannot be changed now "
                f"({os.strerror(error.errno or 0)}): name every address of the port as a group "
                f"(its processes have {adoption.describe_bound(pids)}), or turn the server's "
                "reuseport on"
            ) from error
        del alone[0]
        if lost:
            migration.notes.append(f"{where}: {lost} packets were lost as its address was shared")


def _enroll(service: Service, groups: Groups, cgroup: Path, migration: Migration) -> None:
    for group in service.groups:
        adoption.adopt(
            groups.maps,
            cgroup,
            group.address,
            migration.generation,
            migration.sockets[group.address],
            _TIMEOUT_S,
            group.application,
        )
    with groups.held(migration.generation, cgroups.processes(cgroup)) as sockets:
        for sock in sockets.values():
            if grm.working_generation(sock) != migration.generation:
                grm.promote(sock, migration.generation)
