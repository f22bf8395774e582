# SPDX-License-Identifier: Apache-2.0
"""Addresses as users write them and as the maps hold them."""

from __future__ import annotations

import ipaddress
import socket
import sys
from typing import Optional, Union

from udpgrm import abi
from udpgrm.numbers import whole_number

_V4_MAPPED = bytes(10) + b"\xff\xff"
IPAddress = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]


def parse(text: str) -> tuple[IPAddress, int]:
    """ADDRESS:PORT, IPv6 in brackets; ::ffff:192.0.2.1 means 192.0.2.1.

    Raises ValueError with one clear line.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        ip = ipaddress.ip_address(host[1:-1] if bracketed else host)
        number = whole_number(port, 1, 65535)
    except ValueError:
        number, ip = None, ipaddress.IPv4Address(0)
    if not colon or number is None or bracketed != (ip.version == 6):
        raise ValueError(f"not an ADDRESS:PORT: {text!r} (as 192.0.2.1:443 or [2001:db8::1]:443)")
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return mapped or ip, number


def form(ip: str, port: int) -> str:
    """The text of an address, IPv6 in brackets."""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def bound(sock: socket.socket) -> Optional[str]:
    """ADDRESS:PORT that a socket is bound to, as groups have it; None: not bound."""
    name, port = sock.getsockname()[:2]
    ip = ipaddress.ip_address(name.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return form(str(mapped or ip), port) if port else None


def flow_key(ip: str, port: int) -> abi.FlowKey:
    """The key of a peer's flow. Raises ValueError."""
    parsed = ipaddress.ip_address(ip)
    packed = parsed.packed if parsed.version == 6 else _V4_MAPPED + parsed.packed
    return abi.FlowKey.from_buffer_copy(packed + port.to_bytes(2, "big") + bytes(2))


def ip_of(key: Union[abi.GroupKey, abi.FlowKey]) -> str:
    """The IP of a group's or flow's key."""
    raw = bytes(key.addr)
    if raw.startswith(_V4_MAPPED):
        return socket.inet_ntop(socket.AF_INET, raw[12:])
    return socket.inet_ntop(socket.AF_INET6, raw)


def port_of(key: Union[abi.GroupKey, abi.FlowKey]) -> int:
    """The port of a group's or flow's key."""
    return int.from_bytes(int(key.port).to_bytes(2, sys.byteorder), "big")


def of_key(key: Union[abi.GroupKey, abi.FlowKey]) -> str:
    """ADDRESS:PORT of a key."""
    return form(ip_of(key), port_of(key))
