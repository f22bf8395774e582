# SPDX-License-Identifier: Apache-2.0
"""The QUIC probe with cryptography: a whole handshake, by aioquic if it is installed.

Each question on the connection is a PING, or a GET by HTTP/3.
"""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Iterator
from typing import Any, Optional, Protocol

from udpgrm.probes.exchange import Verdict, failed, passed
from udpgrm.probes.specs import QuicProbe

_IDLE_S = 3600.0  # the server's own limit is likely shorter


class Link(Protocol):
    """The part of runner.Link that a connection needs."""

    target: tuple[str, int]
    attempts: int

    def send(self, datagram: bytes) -> None:
        """Send a datagram. Raises OSError."""

    def receive(self, deadline: float) -> Optional[bytes]:
        """Return the next datagram until a time of time.monotonic(), or None. Raises OSError."""


class Connection:
    """A connection: the first question does its handshake."""

    def __init__(self, spec: QuicProbe, link: Link) -> None:
        self._spec = spec
        self._link = link
        self._quic: Any = None
        self._alpn: Optional[str] = None
        self._http: Any = None
        self._asked = 0  # the PING's number, or the stream of the GET
        self._what = "PING" if spec.get is None else f"GET {spec.get}"

    def ask(self) -> Verdict:
        """Send what only the server can read; it passes if the server answers."""
        if self._quic is None:
            try:
                self._quic = self._connect()
            except ImportError as error:
                return failed(f"a QUIC handshake needs aioquic: install it ({error})")
        self._link.attempts = 1
        deadline = time.monotonic() + self._spec.timeout_s * (self._spec.retries + 1)
        if self._alpn is not None:
            self._send_question()
        reason = "no reply"
        while time.monotonic() < deadline:
            try:
                self._exchange(deadline)
            except OSError as error:
                # aioquic sends again by its own timer
                reason = error.strerror or str(error)
            for event in self._events():
                kind = type(event).__name__
                if kind == "HandshakeCompleted":
                    self._alpn = event.alpn_protocol or "none"
                    self._send_question()
                    reason = f"handshake completed, but no answer to {self._what}"
                elif (answer := self._answer(event)) is not None:
                    self._flush()
                    return passed(answer)
                elif kind == "ConnectionTerminated":
                    detail = event.reason_phrase or "no reason given"
                    return failed(f"QUIC connection closed, error {event.error_code:#x}: {detail}")
        return failed(f"no QUIC handshake and {self._what} in time: {reason}")

    def _send_question(self) -> None:
        if self._http is None:
            self._asked += 1
            self._quic.send_ping(self._asked)
            return
        self._asked = self._quic.get_next_available_stream_id()
        authority = self._spec.server_name or self._link.target[0]
        fields = {":method": "GET", ":scheme": "https", ":authority": authority}
        headers = [*fields.items(), (":path", self._spec.get or "/")]
        encoded = [(name.encode(), value.encode()) for name, value in headers]
        self._http.send_headers(self._asked, encoded, end_stream=True)

    def _answer(self, event: Any) -> Optional[str]:
        """Return what the server has answered, if an event is its answer."""
        if self._http is None:
            if type(event).__name__ == "PingAcknowledged" and event.uid == self._asked:
                return f"QUIC handshake and PING, ALPN {self._alpn}"
            return None
        for found in self._http.handle_event(event):
            if type(found).__name__ == "HeadersReceived" and found.stream_id == self._asked:
                status = dict(found.headers).get(b":status", b"none").decode()
                return f"HTTP/3 {self._what}: status {status}"
        return None

    def close(self) -> None:
        """Close the connection, and notify the server."""
        if self._quic is not None:
            self._quic.close()
            with contextlib.suppress(OSError):
                self._flush()

    def _connect(self) -> Any:
        import ssl  # aioquic, too, takes long to import

        configuration = importlib.import_module("aioquic.quic.configuration")
        connection = importlib.import_module("aioquic.quic.connection")
        quic = connection.QuicConnection(
            configuration=configuration.QuicConfiguration(
                is_client=True,
                alpn_protocols=list(self._spec.alpn),
                server_name=self._spec.server_name,
                verify_mode=ssl.CERT_NONE,
                idle_timeout=_IDLE_S,
            )
        )
        if self._spec.get is not None:
            self._http = importlib.import_module("aioquic.h3.connection").H3Connection(quic)
        quic.connect(self._link.target, now=time.monotonic())
        return quic

    def _exchange(self, deadline: float) -> None:
        """Send what is due, and receive a datagram or let the connection's timer expire."""
        self._flush()
        timer = self._quic.get_timer()
        until = deadline if timer is None else min(timer, deadline)
        datagram = self._link.receive(until)
        now = time.monotonic()
        if datagram is not None:
            self._quic.receive_datagram(datagram, self._link.target, now=now)
        elif timer is not None and now >= timer:
            self._quic.handle_timer(now=now)

    def _flush(self) -> None:
        for datagram, _target in self._quic.datagrams_to_send(now=time.monotonic()):
            self._link.send(datagram)

    def _events(self) -> Iterator[Any]:
        while (event := self._quic.next_event()) is not None:
            yield event
