# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Policies: the operator's settings for groups of an address, before there is such a group.

Hooks read them when they make a group; they are kept in bpffs, so they remain
when the daemon ends, but not after a reboot.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any, Optional

from udpgrm import abi
from udpgrm.dissectors import kinds
from udpgrm.kernel import libbpf, netns
from udpgrm.state import address
from udpgrm.state.maps import Maps
from udpgrm.state.view import Viewer, printable


def address_key(where: str) -> bytes:
    """Return the group_key of an ADDRESS:PORT, of no namespace and no device."""
    return bytes(address.read(where).key)


def get(maps: Maps, where: str) -> Optional[abi.Policy]:
    """Return the policy of an address; None: there is none."""
    raw = libbpf.map_lookup(maps["policies"], address_key(where), ctypes.sizeof(abi.Policy))
    return None if raw is None else abi.Policy.from_buffer_copy(raw)


def put(maps: Maps, where: str, policy: abi.Policy) -> None:
    """Set the policy of an address; it holds for groups that are made from now on."""
    libbpf.map_update(maps["policies"], address_key(where), bytes(policy))


def remove(maps: Maps, where: str) -> bool:
    """Delete the policy of an address; return False if there was none."""
    return libbpf.map_delete(maps["policies"], address_key(where))


def each(maps: Maps) -> Iterator[tuple[str, abi.Policy]]:
    """Yield (ADDRESS:PORT, policy), by address."""
    sizes = ctypes.sizeof(abi.GroupKey), ctypes.sizeof(abi.Policy)
    found = [
        (address.of_key(abi.GroupKey.from_buffer_copy(key)), abi.Policy.from_buffer_copy(value))
        for key, value in libbpf.map_items(maps["policies"], *sizes)
    ]
    yield from sorted(found, key=lambda item: item[0])


def document(policy: abi.Policy) -> dict[str, Any]:
    """Return a policy for programs; parameters as they were given."""
    kind = kinds.of_value(policy.dissector)
    return {
        "type": kind.type.name.lower(),
        "name": kind.name,
        "parameters": kind.describe(policy.dissector),
        "flows": int(policy.flows),
    }


def text(document: dict[str, Any]) -> str:
    """Return a policy for people: without filters and lists of names."""
    parameters = [
        f"{name}={value}"
        for name, value in document["parameters"].items()
        if not isinstance(value, (dict, list))
    ]
    return printable(" ".join([document["name"], *parameters]))


def conflict(maps: Maps, where: str, wanted: abi.Policy) -> Optional[str]:
    """Return why a policy would have no effect, if so: a group keeps its dissector for life."""
    here = netns.own_cookie()
    for group_id in Viewer(maps).group_ids(where):
        group = maps.group(group_id)
        if group.key.netns != here:
            continue  # perhaps an unprivileged user's, who may have any address there
        there = abi.Policy(dissector=maps.dissector(group_id), flows=group.flows)
        if document(there) == document(wanted):
            continue
        # whether they live only the daemon could say, once it has entered them
        return (
            f"{where} has sockets of another dissector ({text(document(there))}), or had: set it "
            f"before the first of them is bound, or after udpgrm delete {where} once all are closed"
        )
    return None
