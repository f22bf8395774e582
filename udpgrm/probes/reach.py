# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The destination and device of a probe, so that the service gets it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

from udpgrm.state import address as addresses

_SIOCGIFADDR = 0x8915
_IFNAME_BYTES = 16

Source = tuple[str, int]


def open_socket(address: str, source: Optional[Source]) -> tuple[socket.socket, Source]:
    """Make a socket that reaches a service at ADDRESS[%DEVICE]:PORT. Returns it and the target.

    A socket that is bound to a device gets only its packets, so the probe's is bound to it too.
    A wildcard address is asked at the source's, else at the device's, else on loopback. Raises
    OSError when there is no such way.
    """
    where = addresses.read(address)
    if where.ip.is_unspecified:
        where = where._replace(ip=_reachable(where, source))
    sock = socket.socket(where.family, socket.SOCK_STREAM if where.tcp else socket.SOCK_DGRAM)
    try:
        where.set_device(sock)
        if source is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, where.tcp)
            sock.bind(source)
    except ValueError as error:
        sock.close()
        raise OSError(errno.EINVAL, str(error)) from error
    except OSError:
        sock.close()
        raise
    return sock, where.sockaddr


def of_host(address: str, host: str) -> str:
    """Return an address of another host: the host's in place of a wildcard one, and no device.

    Raises ValueError, and OSError if the host has no address.
    """
    where = addresses.read(address)._replace(device="")
    if where.ip.is_unspecified:
        found = socket.getaddrinfo(host, where.port, where.family, socket.SOCK_DGRAM)[0][4][0]
        where = where._replace(ip=ipaddress.ip_address(str(found).partition("%")[0]))
    return str(where)


def without_zone(sockaddr: tuple[Any, ...]) -> Source:
    """Return the (ip, port) of a socket's address, without an IPv6 zone."""
    return str(sockaddr[0]).partition("%")[0], int(sockaddr[1])


def _reachable(where: addresses.Where, source: Optional[Source]) -> addresses.IPAddress:
    version = where.ip.version
    if source is not None:
        asked = ipaddress.ip_address(source[0].partition("%")[0])
        if not asked.is_unspecified:
            return asked
    if not where.device:
        return ipaddress.ip_address("127.0.0.1" if version == 4 else "::1")
    try:
        name = socket.if_indextoname(where.ifindex())
    except ValueError as error:
        raise OSError(errno.ENODEV, str(error)) from error
    # routes of a VRF, a bridge or a bond may be at the devices below it
    below = (path.name.partition("_")[2] for path in Path(f"/sys/class/net/{name}").glob("lower_*"))
    for device in (name, *below):
        for ip in _addresses_of(device, version):
            return ip
    raise OSError(
        errno.EADDRNOTAVAIL,
        f"{name} has no IPv{version} address to ask {where} at: give the probe a `from`",
    )


def _addresses_of(device: str, version: int) -> Iterator[addresses.IPAddress]:
    if version == 4:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            request = struct.pack("16s24x", device.encode()[: _IFNAME_BYTES - 1])
            with contextlib.suppress(OSError):
                yield ipaddress.IPv4Address(fcntl.ioctl(sock, _SIOCGIFADDR, request)[20:24])
        return
    found = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            words = line.split()
            if words[5] == device:
                found.append(ipaddress.IPv6Address(bytes.fromhex(words[0])))
    yield from sorted(found, key=lambda ip: ip.is_link_local)
