# SPDX-License-Identifier: Apache-2.0
"""Specifications of probes, by type. Defaults are here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar, Optional


@dataclass(frozen=True)
class ProbeSpec:
    """The fields of all types.

    protocols: what it can be sent over.
    address: one of the service's groups, None = all of them. timeout_s: how long
    each attempt waits. retries: further attempts after the first. from_host: the
    ssh destination that sends the probe, None = this host.
    """

    type: ClassVar[str]
    protocols: ClassVar[tuple[str, ...]] = ("udp",)
    address: Optional[str] = None
    timeout_s: float = 1.0
    retries: int = 2
    from_host: Optional[str] = None


@dataclass(frozen=True)
class EchoProbe(ProbeSpec):
    """A random nonce, which must come back."""

    type: ClassVar[str] = "echo"
    protocols: ClassVar[tuple[str, ...]] = ("udp", "tcp")


@dataclass(frozen=True)
class RawProbe(ProbeSpec):
    """Bytes of the operator's choice.

    payload: hex. expect: hex of the reply, where `?` stands for any digit and a
    last `*` for any further bytes; None = any reply will do.
    """

    type: ClassVar[str] = "raw"
    payload: str = ""
    expect: Optional[str] = None


@dataclass(frozen=True)
class DnsProbe(ProbeSpec):
    """A DNS query (RFC 1035); any well-formed answer to it is a reply.

    rcode: the answer's must be this one, None = any. identity: ask for id.server
    (CHAOS, TXT; RFC 4892) instead of name and query_type, and report it.
    """

    type: ClassVar[str] = "dns"
    protocols: ClassVar[tuple[str, ...]] = ("udp", "tcp")
    name: str = "."
    query_type: str = "NS"
    rcode: Optional[str] = None
    identity: bool = False


@dataclass(frozen=True)
class QuicProbe(ProbeSpec):
    """A reserved QUIC version; Version Negotiation must come back (RFC 8999).

    handshake: a whole handshake by aioquic instead, with server_name as SNI; the
    certificate is not verified. get: on top of that, a GET of this path by HTTP/3.
    """

    type: ClassVar[str] = "quic"
    handshake: bool = False
    get: Optional[str] = None
    server_name: Optional[str] = None
    alpn: tuple[str, ...] = ("h3",)

    @property
    def connects(self) -> bool:
        """Return whether it makes a connection."""
        return self.handshake or self.get is not None


@dataclass(frozen=True)
class StunProbe(ProbeSpec):
    """A STUN binding request (RFC 8489).

    allocate: a TURN Allocate request instead (RFC 8656), without credentials.
    """

    type: ClassVar[str] = "stun"
    allocate: bool = False


@dataclass(frozen=True)
class SipProbe(ProbeSpec):
    """SIP OPTIONS (RFC 3261); any final response is a reply.

    uri: the Request-URI, None = the probed address.
    """

    type: ClassVar[str] = "sip"
    uri: Optional[str] = None


@dataclass(frozen=True)
class NtpProbe(ProbeSpec):
    """An NTP request (RFC 5905); any answer is a reply.

    synchronized: the answer must be of a server that knows the time.
    """

    type: ClassVar[str] = "ntp"
    synchronized: bool = False


@dataclass(frozen=True)
class RadiusProbe(ProbeSpec):
    """Status-Server (RFC 5997). secret: what the server shares with the prober's address."""

    type: ClassVar[str] = "radius"
    secret: str = ""


@dataclass(frozen=True)
class CoapProbe(ProbeSpec):
    """A CoAP ping (RFC 7252)."""

    type: ClassVar[str] = "coap"


@dataclass(frozen=True)
class DtlsProbe(ProbeSpec):
    """A ClientHello of DTLS 1.2 (RFC 6347); the server's first message is a reply."""

    type: ClassVar[str] = "dtls"


@dataclass(frozen=True)
class ConnectProbe(ProbeSpec):
    """A connection of TCP, which the kernel accepts for a listener."""

    type: ClassVar[str] = "connect"
    protocols: ClassVar[tuple[str, ...]] = ("tcp",)


TYPES: dict[str, type[ProbeSpec]] = {
    spec.type: spec
    for spec in (
        *(EchoProbe, RawProbe, DnsProbe, QuicProbe, StunProbe, SipProbe),
        *(NtpProbe, RadiusProbe, CoapProbe, DtlsProbe, ConnectProbe),
    )
}


def strings_of(kind: str) -> set[str]:
    """Return the fields of a type whose values are strings; of an unknown type, none."""
    declared = fields(TYPES[kind]) if kind in TYPES else ()
    return {item.name for item in declared if item.type in ("str", "Optional[str]")}
