# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Shared addresses of a service whose server does not set SO_REUSEPORT.

The bind hooks set it for processes in the service's control groups. The kernel's rule stays that
sockets of one user id only share an address.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable
from pathlib import Path

from udpgrm import abi
from udpgrm.kernel import cgroups, libbpf
from udpgrm.state import address
from udpgrm.state.maps import Maps
from udpgrm.state.policies import address_key

_ID_BYTES = 8


def service_id(name: str) -> bytes:
    """Return the maps' id of a service."""
    import hashlib  # with OpenSSL: not in every command

    return hashlib.sha256(name.encode()).digest()[:_ID_BYTES]


def _unit_name(unit: str) -> bytes:
    """Return a unit's name as the tracepoint cuts it. Raises ValueError for one too long."""
    stem, at, _ = unit.partition("@")
    name = (stem + at).encode()
    if len(name) >= abi.UNIT_NAME_BYTES:
        raise ValueError(f"{unit}: a unit's name has at most {abi.UNIT_NAME_BYTES - 1} bytes here")
    return name


def _shared_key(service: bytes, where: str) -> bytes:
    address = abi.GroupKey.from_buffer_copy(address_key(where))
    return bytes(abi.SharedKey(service=int.from_bytes(service, sys.byteorder), address=address))


def share(
    maps: Maps,
    name: str,
    units: Iterable[tuple[str, Path]],
    addresses: Iterable[str],
    reserved: Iterable[str] = (),
    steered: Iterable[str] = (),
) -> None:
    """Let a service's instances share these addresses, and no others.

    reserved: addresses that no other instance may bind until `release`, except for those in
    steered, which one at any address covers.

    units: its template, or its one unit, and the unit that it has adopted; each with the directory
    of the control group in which systemd makes the unit's. Raises ValueError.
    """
    service = service_id(name)
    cut = [(_unit_name(unit), above) for unit, above in units]
    withdraw(maps, name)
    uses = [(where, abi.AddressUse.RESERVED) for where in reserved]
    if uses:
        uses += [(where, abi.AddressUse.STEERED) for where in steered]
    uses += [(where, abi.AddressUse.SHARED) for where in addresses]
    for where, use in uses:
        key = _shared_key(service, where)
        libbpf.map_update(maps["shared_addresses"], key, use.to_bytes(4, sys.byteorder))
    for unit, above in cut:
        place = abi.UnitKey(parent=cgroups.identity(above), name=unit)
        libbpf.map_update(maps["service_units"], bytes(place), service)
        # control groups that exist already, as of a unit that systemd starts again and again
        for path in above.iterdir():
            stem, at, _ = path.name.partition("@")
            if path.is_dir() and (stem + at).encode() == unit:
                identity = cgroups.identity(path).to_bytes(8, sys.byteorder)
                libbpf.map_update(maps["service_cgroups"], identity, service)


def tried(maps: Maps, name: str) -> list[str]:
    """Return the reserved addresses that an instance of a service has tried to bind."""
    found = [key for key, use in _uses(maps, name) if use is abi.AddressUse.TRIED]
    return sorted(address.of_key(abi.SharedKey.from_buffer_copy(key).address) for key in found)


def release(maps: Maps, name: str) -> None:
    """Let the instances of a service bind what was reserved."""
    for key, use in _uses(maps, name):
        if use in (abi.AddressUse.RESERVED, abi.AddressUse.TRIED):
            libbpf.map_delete(maps["shared_addresses"], key)


def _uses(maps: Maps, name: str) -> list[tuple[bytes, abi.AddressUse]]:
    service = service_id(name)
    items = libbpf.map_items(maps["shared_addresses"], ctypes.sizeof(abi.SharedKey), 4)
    return [
        (key, abi.AddressUse(int.from_bytes(value, sys.byteorder)))
        for key, value in items
        if key.startswith(service)
    ]


def withdraw(maps: Maps, name: str) -> None:
    """Let a service's instances share nothing from now on; bound sockets are not changed."""
    service = service_id(name)
    for key, value in list(libbpf.map_items(maps["service_units"], ctypes.sizeof(abi.UnitKey), 8)):
        if value == service:
            libbpf.map_delete(maps["service_units"], key)
    for key, _ in _uses(maps, name):
        libbpf.map_delete(maps["shared_addresses"], key)
