# SPDX-License-Identifier: Apache-2.0
"""Checks that a schema cannot express: of the parts of a service, and between services."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from udpgrm.dissectors import kinds
from udpgrm.dissectors.parameters import DissectorError
from udpgrm.services import policy
from udpgrm.services.definition import Group, Service


def within(service: Service) -> Iterator[tuple[str, str]]:
    """Yield (key, reason) of what does not fit within one service."""
    first: dict[str, int] = {}
    for number, group in enumerate(service.groups):
        earlier = first.setdefault(group.address, number)
        if earlier != number:
            yield f"groups.{number}.address", f"{group.address} is groups.{earlier}'s already"
        if group.protocol == "tcp":
            yield from _unfit_for_tcp(f"groups.{number}", service, group)
            continue
        yield from _applications(f"groups.{number}", group)
        yield from _parameters(f"groups.{number}.dissector", service, group)
        yield from _problems(f"groups.{number}.dissector.parameters", group)
    for number, probe in enumerate(service.probes):
        if probe.address is not None and probe.address not in first:
            there = ", ".join(first)
            yield f"probes.{number}.address", f"{probe.address} is none of the groups ({there})"
        elif not any(probe in service.probes_of(group) for group in service.groups):
            yield f"probes.{number}.type", f"{probe.type} is over {' or '.join(probe.protocols)}"
    until = service.drain.until
    if until.flows is None and until.quiet_s is None:
        yield "drain.until", "one of flows and quiet_s must be a number"
    yield from _unit(service)
    begin = service.drain.begin
    if begin is not None and begin.signal is not None and service.instances.kind == "decoy":
        reason = f"the unit's main process is mmdecoy: {begin.signal} would not reach the server"
        yield "drain.begin.signal", reason


def _unit(service: Service) -> Iterator[tuple[str, str]]:
    if service.has_made_unit and service.instances.kind == "decoy":
        key = "unit_from" if service.unit_from else "unit_settings"
        yield key, "instances.decoy has one unit, which is not made"
    if service.has_made_unit:
        return
    for key in ("instance_shares", "instance_files"):
        if getattr(service, key):
            yield key, "without unit_from or unit_settings no unit is made that has them"


def _unfit_for_tcp(key: str, service: Service, group: Group) -> Iterator[tuple[str, str]]:
    if group.dissector is not None:
        yield f"{key}.dissector", "of TCP only new connections are steered, without a dissector"
    if group.application:
        yield f"{key}.application", "listeners of TCP have no applications"
    if service.enrollment == "store":
        yield f"{key}.protocol", "udpgrm activate stores sockets of UDP only"


def _parameters(key: str, service: Service, group: Group) -> Iterator[tuple[str, str]]:
    try:
        policy.of_group(service, group)
    except DissectorError as error:
        yield key, str(error)


def _problems(key: str, group: Group) -> Iterator[tuple[str, str]]:
    if group.dissector is None:
        return
    parameters = group.dissector.parameters
    for parameter, reason in kinds.find(group.dissector.name).problems(parameters):
        yield f"{key}.{parameter}", reason


def _applications(key: str, group: Group) -> Iterator[tuple[str, str]]:
    if group.dissector is None:
        return
    kind, parameters = kinds.find(group.dissector.name), group.dissector.parameters
    if not kind.has_applications:
        if group.application:
            reason = f"{group.application}, but {kind.name} knows only application 0"
            yield f"{key}.application", reason
        return
    given = kind.max_apps(parameters)
    if given is None:
        return  # the library checks whether it has applications, and their parameters
    most = max(given, 1)
    used = {f"{key}.application": group.application}
    for parameter, application in kind.applications(parameters):
        used[f"{key}.dissector.parameters.{parameter}"] = application
    for key, application in used.items():
        if application >= most:
            yield key, f"{application} is not below max_apps, {most}"


def between(services: Sequence[tuple[str, Service]]) -> Iterator[tuple[str, str, str]]:
    """Yield (file, key, reason) of what two services of one directory both claim.

    Services may share a group as applications of it, then with one dissector.
    """
    owners: dict[tuple[str, int], str] = {}
    dissectors: dict[str, tuple[str, Group]] = {}
    for file, service in services:
        for number, group in enumerate(service.groups):
            owner = owners.setdefault((group.address, group.application), service.name)
            if owner != service.name:
                reason = f"{group.address} is service {owner}'s already"
                yield file, f"groups.{number}.address", reason
                continue
            other, shared = dissectors.setdefault(group.address, (service.name, group))
            if shared.dissector != group.dissector:
                reason = f"{group.address} has another dissector in service {other}"
                yield file, f"groups.{number}.dissector", reason
