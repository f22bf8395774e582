# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Findings about the services of sockets: what their definitions imply."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from udpgrm.doctor.facts import Code, Finding, Socket
from udpgrm.services import profiles
from udpgrm.services.definition import Service
from udpgrm.state import address


def about_services(services: Sequence[Service], sockets: Sequence[Socket]) -> list[Finding]:
    """Return the findings about services that have one of the sockets' addresses."""
    addresses = {sock.address for sock in sockets}
    concerned = [
        service
        for service in services
        if not addresses.isdisjoint(address.read(group.address).plain for group in service.groups)
    ]
    return [finding for service in concerned for finding in _about(service)]


def _about(service: Service) -> Iterator[Finding]:
    shared = service.shared_addresses()
    if shared:
        yield Finding(
            Code.REUSEPORT_BY_HOOK,
            f"{service.name}: bind hooks set SO_REUSEPORT at {', '.join(shared)}",
            f"in {service.instances.unit} only: its definition has reuseport: set, the default of "
            "enrollment: adopted",
            "nothing to do; reuseport: server if the server sets it itself",
            problem=False,
        )
    losses = profiles.load(service.profile).losses if service.profile else None
    if losses is not None:
        yield Finding(
            Code.RESTART_LOSES,
            f"{service.name}: {losses.what} in a restart",
            losses.why,
            losses.do,
            problem=False,
        )
