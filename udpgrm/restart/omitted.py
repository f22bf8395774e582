# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""UDP addresses that an instance serves and its definition lacks: nothing steers there.

A second instance that binds one, as SO_REUSEADDR permits, gets packets of the first one's clients.
If the kernel refuses and the server continues without, nothing serves there after the restart.
So the bind hooks refuse an instance these addresses until the canary, and note that it has tried.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from udpgrm.kernel import multicast, pidfd, sockopt
from udpgrm.state import address, connecting, records
from udpgrm.state.address import Where
from udpgrm.state.maps import Maps

_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
#: Servers have few; sockets of single clients, as of a TURN relay, may be thousands.
_MOST = 256


def find(maps: Maps, steered: Iterable[str], pids: Iterable[int]) -> list[str]:
    """Return the addresses of processes' UDP sockets that serve any peer, by port.

    Not those in steered, nor multicast receivers, whose copies all instances get, nor sockets
    that their server is about to connect to a peer, at the address that the peer has asked.
    """
    groups, pids = [address.read(where) for where in steered], list(pids)
    found = _served(maps, groups, pids)
    if any(_is_within(where, groups) for where in found.values()):
        time.sleep(connecting.CONNECTS_WITHIN_S)
        still = _served(maps, groups, pids)
        found = {
            cookie: where
            for cookie, where in found.items()
            if cookie in still or not _is_within(where, groups)
        }
    return sorted(set(found.values()), key=_port)[:_MOST]


def _served(maps: Maps, groups: list[Where], pids: Iterable[int]) -> dict[int, str]:
    """Return the addresses at which sockets of processes serve any peer now, by SO_COOKIE."""
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError):  # in execve(2), or out of reach
            for cookie, fd in pidfd.sockets_of(pid):
                with socket.socket(fileno=fd) as sock:
                    if sock.proto != socket.IPPROTO_UDP or not pidfd.is_server(sock):
                        continue
                    where = address.bound(sock)
                    if where is None or sockopt.ifindex(sock):
                        continue
                    if any(group.selects_socket(sock) for group in groups):
                        continue
                    if not _is_enrolled(maps, sock) and not multicast.is_member(sock, pid):
                        found[cookie] = where
    return found


def _is_within(where: str, groups: list[Where]) -> bool:
    """Return whether a group is at any address of that port."""
    port = address.read(where).port
    return any(group.port == port and group.ip.is_unspecified for group in groups)


def overlapping(where: str) -> set[str]:
    """Return an address, and those of any host address whose sockets would share its packets.

    Of two such sockets the kernel prefers the more exact one, so that an instance which binds a
    wildcard gets the clients of an exact address when the other one is stopped. One that binds an
    exact address gets them at once; the bind hooks look a wildcard up for that.
    """
    found = address.read(where)
    # IPv6's wildcard may stand for IPv4, too
    families = ("0.0.0.0", "::") if found.ip.version == 4 or found.ip.is_unspecified else ("::",)
    return {where, *(address.form(any_, found.port) for any_ in families)}


def _is_enrolled(maps: Maps, sock: socket.socket) -> bool:
    """Return whether the server itself has put a socket into a group."""
    request = records.request_of(maps, sock.fileno())
    return request is not None and request.group != 0


def _port(where: str) -> tuple[int, str]:
    return address.read(where).port, where


def lasting(addresses: Iterable[str]) -> list[str]:
    """Return the addresses whose ports the kernel does not choose, so that clients know them."""
    low, high = map(int, _PORT_RANGE.read_text().split())
    return [where for where in addresses if not low <= address.read(where).port <= high]
