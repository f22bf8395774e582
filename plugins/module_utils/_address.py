# Copyright the udpgrm authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Addresses of reuseport groups, as users and the host's command line write them."""

from __future__ import annotations

import ipaddress
import re
import socket
import typing as t


class Address(t.NamedTuple):
    """An IP address and a port, and perhaps a network device; equal however the text was written."""

    ip: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int
    device: str = ""

    def __str__(self) -> str:
        host = f"{self.ip}%{self.device}" if self.device else str(self.ip)
        return f"[{host}]:{self.port}" if self.ip.version == 6 else f"{host}:{self.port}"

    def selects(self, text: str, ifindex: int) -> bool:
        """Return whether it means a group at a plain address, bound to a device (0: to none)."""
        if parse_address(text) != self._replace(device=""):
            return False
        try:
            return not self.device or ifindex == (
                int(self.device) if self.device.isdigit() else socket.if_nametoindex(self.device)
            )
        except OSError:
            return False


_DEVICE = r"(?:%(?P<{}>[^\s/:%\[\]]{{1,15}}))?"
_FORM = re.compile(
    rf"(?:\[(?P<v6>[0-9a-fA-F:.]+){_DEVICE.format('zone6')}\]|(?P<v4>[0-9.]+){_DEVICE.format('zone4')})"
    r":(?P<port>[0-9]{1,5})",
    re.ASCII,
)


def parse_address(text: str) -> Address:
    """Return the address of V(192.0.2.1:443), V([2001:db8::1]:443) or V([fe80::1%eth0]:443).

    Raises ValueError, with a message for the user, on anything else.
    """
    form = _FORM.fullmatch(text)
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address
    if form:
        port = int(form["port"])
        try:
            ip = (
                ipaddress.IPv6Address(form["v6"])
                if form["v6"]
                else ipaddress.IPv4Address(form["v4"])
            )
        except ValueError:
            pass
        else:
            if 1 <= port <= 65535:
                # the kernel gives packets of an IPv4 address to sockets of both spellings
                mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
                return Address(mapped or ip, port, form["zone6"] or form["zone4"] or "")
    raise ValueError(
        f"not an address: {text!r}; expected IP:PORT or [IPV6]:PORT with a port of 1 to 65535"
    )
