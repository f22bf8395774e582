# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Address sharing of a service's instances by the bind hooks, as its definition says."""

from __future__ import annotations

from pathlib import Path

from udpgrm.restart import systemd
from udpgrm.restart.plan import Refused
from udpgrm.restart.systemd import SystemdError
from udpgrm.services.definition import Service
from udpgrm.state import sharing
from udpgrm.state.maps import Maps


def apply(maps: Maps, service: Service) -> None:
    """Let the bind hooks set SO_REUSEPORT if the definition says so. Raises Refused."""
    addresses = service.shared_addresses()
    if not addresses:
        sharing.withdraw(maps, service.name)
        return
    unit = service.instances.unit
    try:
        sharing.share(maps, service.name, unit, _slice_of(service), addresses)
    except (OSError, ValueError) as error:
        raise Refused(f"{unit}: its control group cannot be known beforehand: {error}") from error


def _slice_of(service: Service) -> Path:
    """Return the directory of the slice that instances run in, which is started for that."""
    instance = service.instances.unit_of(0)
    try:
        name = systemd.property_of(instance, "Slice")
        systemd.start(name)
        return systemd.cgroup_of(name)
    except SystemdError as error:
        raise Refused(str(error)) from error
