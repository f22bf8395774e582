# SPDX-License-Identifier: Apache-2.0
"""The runner of probes: it sends over a connected UDP socket, or TCP, with retries, and waits."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import Callable, Optional, Union

from udpgrm.probes import quic_handshake, reach, specs
from udpgrm.probes.coap import Coap
from udpgrm.probes.connect import Connect
from udpgrm.probes.dns import Dns
from udpgrm.probes.dtls import Dtls
from udpgrm.probes.echo import Echo
from udpgrm.probes.exchange import Endpoints, Exchange, Verdict, failed
from udpgrm.probes.ntp import Ntp
from udpgrm.probes.quic import VersionNegotiation
from udpgrm.probes.radius import Radius
from udpgrm.probes.raw import Raw
from udpgrm.probes.sip import Sip
from udpgrm.probes.specs import ProbeSpec
from udpgrm.probes.stream import StreamLink
from udpgrm.probes.stun import Stun
from udpgrm.state import address as addresses

#: After an ICMP error: the port may open any moment, and retries are few.
_REFUSED_PAUSE_S = 0.1
_DATAGRAM = 65535
_MAX_LEFTOVERS = 1000
_SHOWN = 32

Source = reach.Source

#: Types whose question is always the same but for its random parts.
_PLAIN: dict[type[ProbeSpec], Callable[[], Exchange]] = {
    specs.CoapProbe: Coap,
    specs.ConnectProbe: Connect,
    specs.DtlsProbe: Dtls,
    specs.EchoProbe: Echo,
    specs.QuicProbe: VersionNegotiation,
}


@dataclass(frozen=True)
class ProbeResult:
    """The result of a probe.

    address: what was asked for. sent, received: hex of the last datagrams; received
    is the reply that decided, else the last unsuitable one, else None. source: (ip,
    port) the question came from, None when no socket could be made. attempts: how
    often the question was sent.
    """

    type: str
    address: str
    passed: bool
    reason: str
    sent: str
    received: Optional[str]
    source: Optional[Source]
    elapsed_s: float
    attempts: int

    def __str__(self) -> str:
        source = f" from {addresses.form(*self.source)}" if self.source else ""
        return (
            f"{self.type} probe of {self.address}{source} "
            f"{'passed' if self.passed else 'failed'}: {self.reason}; sent {_brief(self.sent)} "
            f"in {self.attempts} attempts, got {_brief(self.received)}"
        )


class Link:
    """A connected UDP socket that records the datagrams of one question."""

    def __init__(self, address: str, source: Optional[Source]) -> None:
        """Connect a socket. Raises OSError if the addresses cannot be used."""
        self._socket, target = reach.open_socket(address, source)
        try:
            self._socket.connect(target)
        except OSError:
            self._socket.close()
            raise
        self.target: Source = reach.without_zone(target)
        self.source: Source = reach.without_zone(self._socket.getsockname())
        self.reset()

    def reset(self) -> None:
        """Begin a question."""
        self.sent = b""
        self.received: Optional[bytes] = None
        self.attempts = 0

    def send(self, datagram: bytes) -> None:
        """Send a datagram. Raises OSError, also for an ICMP error that arrived since."""
        self.sent = datagram
        self._socket.send(datagram)

    def receive(self, deadline: float) -> Optional[bytes]:
        """Return the next datagram until a time of time.monotonic(), or None. Raises OSError."""
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return None
        self._socket.settimeout(remaining)
        try:
            self.received = self._socket.recv(_DATAGRAM)
        except socket.timeout:
            return None
        return self.received

    def discard(self) -> None:
        """Discard datagrams since the last question: they answer that one."""
        self._socket.settimeout(0)
        for _ in range(_MAX_LEFTOVERS):
            try:
                self._socket.recv(1)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error, now taken

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class Held:
    """A flow from one port to a service, which may carry many questions.

    `source` is (ip, port) as the service will see it, known before the first question.
    """

    def __init__(self, spec: ProbeSpec, address: str, source: Optional[Source]) -> None:
        self._spec = spec
        self._address = address
        self._handshake: Optional[quic_handshake.Connection] = None
        self._link: Union[Link, StreamLink]
        if addresses.read(address).tcp:
            self._link = StreamLink(spec, address, source)
        else:
            self._link = Link(address, source)
            if isinstance(spec, specs.QuicProbe) and spec.connects:
                self._handshake = quic_handshake.Connection(spec, self._link)
        self.source = self._link.source

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self) -> ProbeResult:
        """Send a question and return the result; no failure of network or service raises.

        Takes at most timeout_s * (retries + 1).
        """
        started = time.monotonic()
        self._link.reset()
        verdict = self._handshake.ask() if self._handshake else self._attempts()
        return ProbeResult(
            type=self._spec.type,
            address=self._address,
            passed=verdict.kind == "passed",
            reason=verdict.reason,
            sent=self._link.sent.hex(),
            received=None if self._link.received is None else self._link.received.hex(),
            source=self.source,
            elapsed_s=time.monotonic() - started,
            attempts=self._link.attempts,
        )

    def close(self) -> None:
        """End the flow on this side."""
        if self._handshake:
            self._handshake.close()
        self._link.close()

    def _attempts(self) -> Verdict:
        """Send the same question until a reply decides, or the retries are exhausted."""
        link = self._link
        link.discard()
        exchange = _exchange(self._spec, Endpoints(link.source, link.target))
        verdict = failed(f"no reply within {self._spec.timeout_s:g} s")
        for _ in range(self._spec.retries + 1):
            link.attempts += 1
            deadline = time.monotonic() + self._spec.timeout_s
            try:
                link.send(exchange.request)
                while (reply := link.receive(deadline)) is not None:
                    verdict = exchange.evaluate(reply)
                    if verdict.kind != "unrelated":
                        return verdict
            except OSError as error:
                verdict = failed(_network_reason(error, link))
                time.sleep(max(min(_REFUSED_PAUSE_S, deadline - time.monotonic()), 0))
        return verdict


def run(spec: ProbeSpec, address: str, *, source: Optional[Source] = None) -> ProbeResult:
    """Probe once from a fresh flow.

    source: (ip, port) to send from; port 0 is any. A wildcard address is asked at
    the source's, at its device's (ADDRESS%DEVICE:PORT), or on loopback. Never raises for what the
    network or the service does; what keeps the probe from being sent is a failure with a reason.
    """
    try:
        held = hold(spec, address, source=source)
    except OSError as error:
        reason = f"cannot be sent: {error.strerror or error}"
        return ProbeResult(spec.type, address, False, reason, "", None, None, 0.0, 0)
    with held:
        return held.ask()


def hold(spec: ProbeSpec, address: str, *, source: Optional[Source] = None) -> Held:
    """Return a flow for several questions; the first one establishes it.

    Raises OSError if no socket can be made between these addresses.
    """
    return Held(spec, address, source)


def _exchange(spec: ProbeSpec, between: Endpoints) -> Exchange:
    if isinstance(spec, specs.RawProbe):
        return Raw(spec)
    if isinstance(spec, specs.DnsProbe):
        return Dns(spec)
    if isinstance(spec, specs.SipProbe):
        return Sip(spec, between)
    if isinstance(spec, specs.StunProbe):
        return Stun(allocate=spec.allocate)
    if isinstance(spec, specs.NtpProbe):
        return Ntp(spec)
    if isinstance(spec, specs.RadiusProbe):
        return Radius(spec)
    return _PLAIN[type(spec)]()


def _network_reason(error: OSError, link: Union[Link, StreamLink]) -> str:
    if isinstance(error, ConnectionRefusedError):
        how = "ICMP port unreachable" if isinstance(link, Link) else "a reset"
        return f"refused: no socket at that port ({how})"
    return f"network error: {error.strerror or error}"


def _brief(content: Optional[str]) -> str:
    """Return hex, shortened, with its length in bytes."""
    if content is None:
        return "nothing"
    more = "..." if len(content) > 2 * _SHOWN else ""
    return f"{content[: 2 * _SHOWN]}{more} ({len(content) // 2} bytes)"
