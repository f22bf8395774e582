# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Findings about limits of the kernel that meet a steered socket (docs/limits.md)."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator

from udpgrm.doctor.facts import Code, Finding, Group, Host, Socket
from udpgrm.state import address

#: By the finding of doctor/options.py: its code, what it is, why it matters, what to do.
_OF_OPTIONS = {
    "gro": (
        Code.LIMIT_GRO,
        "UDP_GRO is on",
        "the kernel joins packets of one peer into trains and steers each by its first packet",
        "turn UDP_GRO off if flows of one peer are distinguished by their content (QUIC and other "
        "cookies)",
    ),
    "transparent": (
        Code.LIMIT_TRANSPARENT,
        "IP_TRANSPARENT is on",
        "packets that TPROXY hands over pass the steering program by",
        "redirect with DNAT, or route the prefix to lo as local",
    ),
    "multicast": (
        Code.LIMIT_MULTICAST,
        "member of a multicast group",
        "multicast packets reach every member's socket, of all generations",
        "let one instance alone be a member, or have only it answer",
    ),
    "broadcast": (
        Code.LIMIT_BROADCAST,
        "SO_BROADCAST is on",
        "broadcast packets reach every socket of a wildcard address, of all generations",
        "if the server takes broadcasts, let only the working instance answer them",
    ),
    "errors": (
        Code.LIMIT_ERRORS,
        "IP_RECVERR is on",
        "ICMP errors reach the socket that the kernel's hash names, of any generation",
        "see that the server continues after ECONNREFUSED and other errors of recv and send",
    ),
    "tunnel": (
        Code.LIMIT_TUNNEL,
        "UDP_ENCAP is on",
        "the kernel sends packets of a tunnel (ESP, L2TP) itself, which refreshes no flow: a drain "
        "may end while tunnels are in use",
        "let the drain wait for silence (quiet_s), or keep tunnels on a port of their own",
    ),
}

_ALL_IPV4 = "all IPv4 packets"


def explain(limit: str) -> str:
    """Return what meets a limit, why it matters and what to do, in one line."""
    _, what, why, do = _OF_OPTIONS[limit]
    return f"{what}: {why}; {do} (docs/limits.md)"


def of_socket(sock: Socket) -> Iterator[Finding]:
    """Return the findings about options of a socket that meet a limit."""
    for name, (code, what, why, do) in _OF_OPTIONS.items():
        if name in sock.limits:
            yield Finding(code, what, why, f"{do} (docs/limits.md)", problem=False)


def of_programs(group: Group, sock: Socket) -> Iterator[Finding]:
    """Return the finding about programs that may change a peer after its flow was recorded."""
    if group.has_flows and sock.send_programs:
        yield Finding(
            Code.LIMIT_SENDS,
            "another program sees its sends after udpgrm",
            f"if {', '.join(sock.send_programs)} changes where a packet is sent, as load balancers "
            "in sockets do, answers from there are of no known flow",
            "send to such addresses from another socket, or have udpgrm's hooks run after that "
            "program (docs/limits.md)",
            problem=False,
        )


def of_lookups(group: Group) -> Iterator[Finding]:
    """Return the finding about programs that may give packets to sockets of their choice."""
    if group.lookup_programs:
        yield Finding(
            Code.LIMIT_LOOKUP,
            "another program looks sockets up",
            f"{', '.join(group.lookup_programs)} (sk_lookup) of its network namespace may give "
            "packets to other sockets, whatever the steering program has chosen and counted",
            f"see that it leaves {group.address} alone (docs/limits.md)",
            problem=False,
        )


def of_filter(group: Group) -> Iterator[Finding]:
    """Return the findings about loads of a filter that steering programs cannot run."""
    if group.failing_loads:
        positions = ", ".join(map(str, group.failing_loads))
        yield Finding(
            Code.LIMIT_FILTER,
            "its filter cannot work",
            f"instruction {positions} loads ancillary data (SKF_AD_OFF), "
            "which a steering program has not: the kernel spreads every packet that gets there",
            "write the filter over the UDP payload (docs/limits.md)",
        )


def of_groups(host: Host, group: Group, sock: Socket) -> Iterator[Finding]:
    """Return the findings about other groups that get packets of a socket's address first."""
    for other in host.groups:
        if other.group_id == group.group_id or other.netns != group.netns:
            continue
        taken = _taken_by(group, other, sock)
        if taken:
            yield Finding(
                Code.SHADOWED,
                "another group comes first",
                f"the kernel gives {taken} to the group at {other.address}, working or not: "
                "the more exact address is preferred, and AF_INET for IPv4",
                "bind all instances alike (docs/limits.md)",
                problem=taken == _ALL_IPV4,
            )


def _taken_by(group: Group, other: Group, sock: Socket) -> str:
    """Return which packets the other group takes from this one; "": none."""
    mine, port, _, is_tcp = address.read(group.address)
    theirs, other_port, _, other_is_tcp = address.read(other.address)
    if (port, is_tcp) != (other_port, other_is_tcp) or not mine.is_unspecified or mine == theirs:
        return ""
    if other.ifindex not in (0, group.ifindex) and group.ifindex:
        return ""
    if isinstance(theirs, ipaddress.IPv4Address) and sock.family == socket.AF_INET6 and sock.v6only:
        return ""
    if mine.version == 4 and theirs.version == 6:
        return ""
    if theirs.is_unspecified:
        return _ALL_IPV4
    return f"packets to {theirs}"
