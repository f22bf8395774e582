# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The bind hook's record of a socket, for sockets that were bound before the hooks."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket

from udpgrm import abi
from udpgrm.kernel import libbpf, sockopt
from udpgrm.state import address, connected, records
from udpgrm.state.maps import Maps


def request_of(maps: Maps, cookie: int, sock: socket.socket) -> abi.SocketRequest:
    """Return the hook's record of a socket, or the record that the bind hook would have made."""
    found = records.request_of(maps, sock.fileno())
    if found is not None:
        return found
    return abi.SocketRequest(
        cookie=cookie,
        generation=abi.GENERATION_NONE,
        wildcard=_any_address(address.own_ip(sock)),
        ifindex=sockopt.ifindex(sock),
        uid=os.stat(f"/proc/self/fd/{sock.fileno()}").st_uid,
    )


def _any_address(ip: address.IPAddress) -> int:
    """Return which any address it is; 0: none. An IPv6 socket may be at that of IPv4."""
    if not ip.is_unspecified:
        return 0
    return abi.AnyAddress.IPV4_ADDRESS if ip.version == 4 else abi.AnyAddress.ADDRESS


def note_bound(maps: Maps, cookie: int, sock: socket.socket) -> None:
    """Write the bind hook's record of a socket, unless the hook has."""
    request = request_of(maps, cookie, sock)
    flags = libbpf.ANY if request.ungrouped else libbpf.NOEXIST  # the socket was connected since
    request.ungrouped = 0
    with contextlib.suppress(FileExistsError):
        records.write_request(maps, sock.fileno(), request, flags)


def note_connected(
    maps: Maps, group_id: int, generation: int, application: int, found: tuple[int, socket.socket]
) -> None:
    """Record the generation of a socket that was connected before it could be known.

    found: its SO_COOKIE and a duplicate. Sockets at another address than the group's, and
    sockets that the hooks have a record of, are skipped.
    """
    cookie, sock = found
    group = maps.group(group_id)
    if not _is_at(group, sock):  # a server has sockets of other families, too
        return
    if group.key.protocol:
        member = abi.Membership(
            group=group_id + 1, epoch=group.epoch, generation=generation, app=application
        )
        records.write_accepted(maps, sock.fileno(), member)
        return
    request = request_of(maps, cookie, sock)
    if request.registered or request.process.group:
        return
    ip = ipaddress.ip_address(address.ip_of(group.key))
    request.wildcard = _any_address(ip)
    request.process = abi.Membership(
        group=group_id + 1, epoch=group.epoch, generation=generation, app=application
    )
    reuseport = sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
    if reuseport and not ip.is_unspecified and connected.connect_parts():
        # as the connect hook does
        had = sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
        request.parted = abi.Parted.OF_ONE if had else abi.Parted.OF_BOTH
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        group.parted = 1
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
    records.write_request(maps, sock.fileno(), request)


def _is_at(group: abi.Group, sock: socket.socket) -> bool:
    """Return whether a connected socket was bound at the group's address."""
    protocol = group.key.protocol or socket.IPPROTO_UDP
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.proto != protocol:
        return False
    try:
        sock.getpeername()
    except OSError:
        return False
    if sockopt.netns_cookie(sock) != group.key.netns:
        return False
    if sock.getsockname()[1] != address.port_of(group.key):
        return False
    if ipaddress.ip_address(address.ip_of(group.key)).is_unspecified:
        # at any address of the family; IPv6's may stand for IPv4, too
        return address.own_ip(sock).version == 4 or bool(group.key.family == socket.AF_INET6)
    return address.bound(sock) == address.of_key(group.key)
