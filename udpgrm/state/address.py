# SPDX-License-Identifier: Apache-2.0
"""Addresses, as commands take them and as the maps hold them."""

from __future__ import annotations

import ipaddress
import re
import socket
import sys
from typing import NamedTuple, Optional, Union

from udpgrm import abi
from udpgrm.kernel import sockopt
from udpgrm.numbers import whole_number

_V4_MAPPED = bytes(10) + b"\xff\xff"
#: At the end of the address of listeners of TCP.
TCP = "/tcp"
#: A device as the kernel names it (at most 15 characters, no slash, colon, blank), or its number.
_DEVICE = re.compile(r"[^\s/:%\[\]]{1,15}")
IPAddress = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]


class Where(NamedTuple):
    """An address of a command line: ADDRESS[%DEVICE]:PORT, IPv6 in brackets, and /tcp after TCP's.

    The device is a link-local address's, or the one that sockets are bound to. "" means that
    none is named: in a selection of groups, any.
    """

    ip: IPAddress
    port: int
    device: str = ""
    tcp: bool = False

    def __str__(self) -> str:
        """Return the usual spelling."""
        return form(str(self.ip), self.port, self.device, tcp=self.tcp)

    @property
    def plain(self) -> str:
        """Return the address as groups have it, without a device."""
        return form(str(self.ip), self.port, tcp=self.tcp)

    @property
    def key(self) -> abi.GroupKey:
        """Return the key of a group of the address, of no namespace and no device."""
        key = abi.GroupKey(
            family=self.family,
            protocol=socket.IPPROTO_TCP if self.tcp else 0,
            port=socket.htons(self.port),
        )
        packed = self.ip.packed if self.ip.version == 6 else _V4_MAPPED + self.ip.packed
        key.addr[:] = packed
        return key

    @property
    def sockaddr(self) -> tuple[str, int]:
        """Return the argument of bind(2) and connect(2), with a link-local address's device."""
        zone = f"%{self.device}" if self.device and self.ip.is_link_local else ""
        return (f"{self.ip}{zone}" if self.ip.version == 6 else str(self.ip)), self.port

    @property
    def family(self) -> int:
        """Return AF_INET or AF_INET6."""
        return socket.AF_INET6 if self.ip.version == 6 else socket.AF_INET

    def ifindex(self) -> int:
        """Return the index of its device here; 0: it names none. Raises ValueError."""
        if not self.device:
            return 0
        try:
            return int(self.device) if self.device.isdigit() else socket.if_nametoindex(self.device)
        except OSError as error:
            raise ValueError(f"{self}: there is no network device {self.device!r} here") from error

    def selects(self, plain: str, ifindex: int) -> bool:
        """Return whether it selects sockets at a plain address, bound to a device (0: to none)."""
        if plain != self.plain:
            return False
        try:
            return not self.device or ifindex == self.ifindex()
        except ValueError:
            return False

    def selects_socket(self, sock: socket.socket) -> bool:
        """Return whether it selects a socket, by the address and device that it is bound to."""
        return self.selects(bound(sock) or "", sockopt.ifindex(sock))

    def want_device(self) -> None:
        """Raise ValueError if it is link-local and names no device: the kernel says EINVAL."""
        if self.ip.version == 6 and self.ip.is_link_local and not self.device:
            example = form(str(self.ip), self.port, "eth0")
            raise ValueError(f"{self} is link-local: name its device too, as {example}")

    def set_device(self, sock: socket.socket) -> None:
        """Bind a socket to the device that it names. Raises ValueError and OSError."""
        self.want_device()
        if self.device:
            name = socket.if_indextoname(self.ifindex()).encode()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name)

    def bind(self, sock: socket.socket) -> None:
        """Bind a socket to the address, and to its device. Raises ValueError and OSError."""
        self.set_device(sock)
        sock.bind(self.sockaddr)


def read(text: str) -> Where:
    """Read ADDRESS[%DEVICE]:PORT[/tcp], IPv6 in brackets; ::ffff:192.0.2.1 means 192.0.2.1.

    Raises ValueError with one clear line.
    """
    host, colon, port = text.removesuffix(TCP).rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    plain, zone, device = (host[1:-1] if bracketed else host).partition("%")
    try:
        ip = ipaddress.ip_address(plain)
        number = whole_number(port, 1, 65535)
    except ValueError:
        number, ip = None, ipaddress.IPv4Address(0)
    if not colon or number is None or bracketed != (ip.version == 6):
        raise ValueError(f"not an ADDRESS:PORT: {text!r} (as 192.0.2.1:443 or [2001:db8::1]:443)")
    if zone and not _DEVICE.fullmatch(device):
        raise ValueError(f"not the name of a network device: {device!r} in {text!r}")
    return Where(unmapped(ip), number, device, text.endswith(TCP))


def unmapped(ip: IPAddress) -> IPAddress:
    """Return the IPv4 address that an IPv6 one stands for (RFC 4291, 2.5.5.2), else the same."""
    return getattr(ip, "ipv4_mapped", None) or ip


def read_udp(text: str) -> Where:
    """Read an address of UDP. Raises ValueError, also for one of TCP."""
    where = read(text)
    if where.tcp:
        raise ValueError(f"{text} is an address of TCP: sockets of UDP are wanted here")
    return where


def form(ip: str, port: int, device: str = "", *, tcp: bool = False) -> str:
    """Return the text of an address, IPv6 in brackets."""
    host = f"{ip}%{device}" if device else ip
    return (f"[{host}]:{port}" if ":" in ip else f"{host}:{port}") + (TCP if tcp else "")


def device_name(ifindex: int) -> str:
    """Return the name of a network device here, or its number where it has none; "" for 0."""
    if not ifindex:
        return ""
    try:
        return socket.if_indextoname(ifindex)
    except OSError:
        return str(ifindex)


def own_ip(sock: socket.socket) -> IPAddress:
    """Return the IP address that a socket is bound to, unmapped."""
    return unmapped(ipaddress.ip_address(sock.getsockname()[0].partition("%")[0]))


def bound(sock: socket.socket) -> Optional[str]:
    """Return the ADDRESS:PORT that a socket is bound to, as groups have it; None: not bound."""
    port, tcp = sock.getsockname()[1], sock.type == socket.SOCK_STREAM
    return form(str(own_ip(sock)), port, tcp=tcp) if port else None


def flow_key(ip: str, port: int) -> abi.FlowKey:
    """Return the key of a peer's flow. Raises ValueError."""
    parsed = ipaddress.ip_address(ip)
    packed = parsed.packed if parsed.version == 6 else _V4_MAPPED + parsed.packed
    return abi.FlowKey.from_buffer_copy(packed + port.to_bytes(2, "big") + bytes(2))


def ip_of(key: Union[abi.GroupKey, abi.FlowKey]) -> str:
    """Return the IP of a group's or flow's key."""
    raw = bytes(key.addr)
    if raw.startswith(_V4_MAPPED):
        return socket.inet_ntop(socket.AF_INET, raw[12:])
    text = socket.inet_ntop(socket.AF_INET6, raw)
    # ::192.0.2.1 there is ::c000:201 where addresses are read
    return str(ipaddress.IPv6Address(raw)) if "." in text else text


def port_of(key: Union[abi.GroupKey, abi.FlowKey]) -> int:
    """Return the port of a group's or flow's key."""
    return int.from_bytes(int(key.port).to_bytes(2, sys.byteorder), "big")


def of_any_device(key: abi.GroupKey) -> bytes:
    """Return the part of a group's key that its address makes, without namespace and device."""
    return bytes(key)[abi.GroupKey.family.offset :]


def of_key(key: Union[abi.GroupKey, abi.FlowKey]) -> str:
    """Return the ADDRESS:PORT of a key."""
    tcp = isinstance(key, abi.GroupKey) and key.protocol == socket.IPPROTO_TCP
    return form(ip_of(key), port_of(key), tcp=tcp)
