# SPDX-License-Identifier: Apache-2.0
"""The sockets of an instance: made, bound, with the group's dissector and application."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import sys

import udpgrm.client as grm
from udpgrm import abi
from udpgrm.abi import Option
from udpgrm.activate.options import Settings
from udpgrm.dissectors import kinds
from udpgrm.kernel import sockopt
from udpgrm.state import address


def dissector(settings: Settings) -> abi.Dissector:
    """Return the value of UDP_GRM_DISSECTOR. Raises ValueError and OSError for a filter file."""
    kind = settings.kind
    value = kind.encode(kind.parse_options(settings))
    value.max_apps, value.label = settings.apps_max, settings.label
    value.flow_timeout_s = settings.flow_timeout
    return value


def make(settings: Settings, value: abi.Dissector) -> list[socket.socket]:
    """Make bound sockets with dissector and application set; all or none.

    Raises client.NotHooked, ValueError (the group has another dissector) and OSError.
    """
    made: list[socket.socket] = []
    try:
        for _ in range(settings.count):
            made.append(_bound(settings))
            _set_dissector(made[-1], settings, value)
            if settings.app:
                grm.set_option(made[-1], Option.SOCKET_APP, settings.app.to_bytes(4, sys.byteorder))
    except BaseException:
        for sock in made:
            sock.close()
        raise
    return made


def _set_dissector(sock: socket.socket, settings: Settings, value: abi.Dissector) -> None:
    try:
        grm.set_option(sock, Option.DISSECTOR, bytes(value))
    except PermissionError as error:
        if _is_operators(sock, settings):
            return
        raise ValueError(
            f"{settings.address}: the group has another dissector (udpgrm list), "
            "or the kernel does not take this one"
        ) from error


def _is_operators(sock: socket.socket, settings: Settings) -> bool:
    """Return whether the operator chooses the dissector of the group.

    That is any dissector if none is asked for here, and a named one, which no option here names.
    """
    try:
        size = ctypes.sizeof(abi.Dissector)
        raw = sock.getsockopt(socket.IPPROTO_UDP, Option.DISSECTOR, size)
    except OSError:  # there is no group: the value itself was refused
        return False
    there = kinds.of_value(abi.Dissector.from_buffer_copy(raw))
    return not settings.names_dissector or there.in_library


def _bound(settings: Settings) -> socket.socket:
    where = address.read(settings.address)
    ip = where.ip
    sock = socket.socket(where.family, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if ip.version == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not settings.also_ipv4)
        if settings.freebind and ip.version == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, sockopt.IPV6_FREEBIND, 1)
        elif settings.freebind:
            sock.setsockopt(socket.IPPROTO_IP, sockopt.IP_FREEBIND, 1)
        if settings.rcvbuf is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, settings.rcvbuf)
            # beyond net.core.rmem_max, if permitted
            with contextlib.suppress(PermissionError):
                sock.setsockopt(socket.SOL_SOCKET, sockopt.SO_RCVBUFFORCE, settings.rcvbuf)
        try:
            where.bind(sock)
        except OSError as error:
            raise OSError(error.errno, error.strerror, settings.address) from error
    except BaseException:
        sock.close()
        raise
    return sock
