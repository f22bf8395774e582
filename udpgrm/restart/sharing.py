# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Address sharing of a service's instances by the bind hooks, as its definition says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from udpgrm.restart import former, systemd
from udpgrm.restart.plan import Refused
from udpgrm.restart.systemd import SystemdError
from udpgrm.services.definition import Service
from udpgrm.state import sharing
from udpgrm.state.maps import Maps


def apply(maps: Maps, service: Service, reserved: Sequence[str] = ()) -> None:
    """Let the bind hooks set SO_REUSEPORT if the definition says so. Raises Refused.

    reserved: addresses of the instance that serves, which no other may bind now.
    """
    addresses = service.shared_addresses()
    if not addresses and not reserved:
        sharing.withdraw(maps, service.name)
        return
    unit, adopted = service.instances.unit, former.load(service.name)
    units = [(unit, _slice_of(service.instances.unit_of(0)))]
    if adopted is not None:  # the unit may bind again, as on SIGHUP, or be started again
        units.append((adopted.unit, _slice_of(adopted.unit)))
    try:
        steered = [group.address for group in service.groups]
        sharing.share(maps, service.name, units, addresses, reserved, steered)
    except (OSError, ValueError) as error:
        raise Refused(f"{unit}: its control group cannot be known beforehand: {error}") from error


def _slice_of(unit: str) -> Path:
    """Return the directory of the slice that a unit runs in, which is started for that."""
    try:
        name = systemd.property_of(unit, "Slice")
        systemd.start(name)
        return systemd.cgroup_of(name)
    except SystemdError as error:
        raise Refused(str(error)) from error
