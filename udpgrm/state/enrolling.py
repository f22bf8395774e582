# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""What the bind hook notes of a socket, for those that it came too late for."""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import os
import socket
import sys

from udpgrm import abi
from udpgrm.kernel import libbpf
from udpgrm.state.maps import Maps

_SO_BINDTOIFINDEX = 62
_SO_NETNS_COOKIE = 71


def request_of(maps: Maps, cookie: int, sock: socket.socket) -> abi.SocketRequest:
    """Return what is noted of a socket, or would be had the bind hook been there."""
    size = ctypes.sizeof(abi.SocketRequest)
    raw = libbpf.map_lookup(maps["socket_request"], _key(sock), size)
    if raw is not None:
        return abi.SocketRequest.from_buffer_copy(raw)
    return abi.SocketRequest(
        cookie=cookie,
        generation=abi.GENERATION_NONE,
        wildcard=ipaddress.ip_address(sock.getsockname()[0].partition("%")[0]).is_unspecified,
        ifindex=sock.getsockopt(socket.SOL_SOCKET, _SO_BINDTOIFINDEX),
        uid=os.stat(f"/proc/self/fd/{sock.fileno()}").st_uid,
    )


def note_bound(maps: Maps, cookie: int, sock: socket.socket) -> None:
    """Note of a socket what the bind hook would have, if that came too late."""
    with contextlib.suppress(FileExistsError):
        _write(maps, request_of(maps, cookie, sock), sock, libbpf.NOEXIST)


def write_request(maps: Maps, request: abi.SocketRequest, sock: socket.socket) -> None:
    """Replace what is noted of a socket."""
    _write(maps, request, sock, libbpf.ANY)


def _write(maps: Maps, request: abi.SocketRequest, sock: socket.socket, flags: int) -> None:
    libbpf.map_update(maps["socket_request"], _key(sock), bytes(request), flags)


def netns_of(sock: socket.socket) -> int:
    """Return the cookie of the socket's network namespace."""
    raw = sock.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
    return int.from_bytes(raw, sys.byteorder)


def _key(sock: socket.socket) -> bytes:
    return sock.fileno().to_bytes(4, sys.byteorder)
