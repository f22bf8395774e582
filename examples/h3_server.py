#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""An HTTP/3 server whose downloads outlive its own replacement. Needs aioquic.

Connection IDs that it chooses begin with the udpgrm cookie of the socket that the
connection is served on. The dissector quic reads it there, so every packet of a
connection reaches its socket: whatever the working generation is, and also from
another address of the client.

It answers ``GET /download?bytes=N&seconds=S&name=WORD`` with N bytes that only
depend on WORD, evenly spread over S seconds. The header ``server`` names
the instance that answers: ``NAME GENERATION PID``.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import signal
import socket
import sys
import urllib.parse
from functools import partial
from typing import Any

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import QuicServer
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, ProtocolNegotiated, QuicEvent

import udpgrm.client as grm

# below the 8 bytes that a client's own first ID has at least, so none is mistaken for ours
CID_LENGTH = 7
PIECES = 50


def content(name: str, size: int) -> bytes:
    """Return the content of the download of this name."""
    return hashlib.shake_128(name.encode()).digest(size)


def put_cookie(quic: QuicConnection, cookie: int) -> None:
    """Let all IDs of a connection that is new begin with the cookie.

    aioquic draws them at random and has no place to ask for others, hence its
    private attributes.
    """
    prefix = cookie.to_bytes(2, "big")
    first = quic._host_cids[0]
    first.cid = prefix + first.cid[2:]
    quic.host_cid = quic._local_initial_source_connection_id = first.cid
    replenish = quic._replenish_connection_ids

    def replenish_with_cookie() -> None:
        replenish()
        for item in quic._host_cids:
            if not item.was_sent:
                item.cid = prefix + item.cid[2:]

    quic._replenish_connection_ids = replenish_with_cookie  # type: ignore[method-assign]


class Downloads(QuicConnectionProtocol):
    """A connection and its downloads."""

    def __init__(self, quic: QuicConnection, stream_handler: Any, cookie: int, name: str) -> None:
        put_cookie(quic, cookie)
        super().__init__(quic, stream_handler)
        self._name = name
        self._http: H3Connection | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def quic_event_received(self, event: QuicEvent) -> None:
        """Answer requests."""
        if isinstance(event, ProtocolNegotiated):
            self._http = H3Connection(self._quic)
        if isinstance(event, ConnectionTerminated):
            for task in self._tasks:
                task.cancel()
        if self._http is not None:
            for http_event in self._http.handle_event(event):
                self._http_event(http_event)

    def _http_event(self, event: H3Event) -> None:
        if isinstance(event, HeadersReceived):
            path = dict(event.headers).get(b":path", b"").decode()
            task = asyncio.ensure_future(self._answer(event.stream_id, path))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, stream: int, path: str) -> None:
        assert self._http is not None
        http, place = self._http, urllib.parse.urlsplit(path)
        query = dict(urllib.parse.parse_qsl(place.query))
        try:
            if place.path != "/download":
                raise KeyError(path)
            body = content(query["name"], int(query["bytes"]))
            pause = float(query["seconds"]) / PIECES
        except (KeyError, ValueError):
            http.send_headers(stream, [(b":status", b"404")], end_stream=True)
            self.transmit()
            return
        headers = [(b":status", b"200"), (b"server", self._name.encode())]
        http.send_headers(stream, [*headers, (b"content-length", b"%d" % len(body))])
        step = len(body) // PIECES + 1
        for start in range(0, len(body), step):
            http.send_data(stream, body[start : start + step], end_stream=False)
            self.transmit()
            await asyncio.sleep(pause)
        http.send_data(stream, b"", end_stream=True)
        self.transmit()


async def serve(arguments: argparse.Namespace) -> None:
    """Serve until SIGTERM; remaining connections are closed then."""
    configuration = QuicConfiguration(
        alpn_protocols=H3_ALPN, is_client=False, connection_id_length=CID_LENGTH
    )
    configuration.load_cert_chain(arguments.certificate, arguments.key)
    dissector = grm.named_dissector("quic", cid_length=CID_LENGTH)
    sockets = grm.bind(arguments.address, arguments.sockets, dissector=dissector)
    grm.enroll(sockets, arguments.generation)
    name = f"{socket.gethostname()} {arguments.generation} {os.getpid()}"
    loop = asyncio.get_running_loop()
    servers = []
    for sock in sockets:
        # known once the daemon has registered the socket
        cookie = grm.socket_generation(sock).cookie
        create = partial(Downloads, cookie=cookie, name=name)
        make = partial(QuicServer, configuration=configuration, create_protocol=create)
        _, server = await loop.create_datagram_endpoint(make, sock=sock)
        servers.append(server)
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    notify_ready()
    await ended.wait()
    for server in servers:
        server.close()


def notify_ready() -> None:
    """Notify systemd that all sockets are enrolled; without systemd do nothing."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(b"READY=1", "\0" + path[1:] if path.startswith("@") else path)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="HTTP/3 server for udpgrm")
    parser.add_argument("--address", required=True, metavar="ADDR:PORT")
    parser.add_argument("--generation", type=int, required=True)
    parser.add_argument("--sockets", type=int, default=1)
    parser.add_argument("--certificate", required=True, metavar="FILE")
    parser.add_argument("--key", required=True, metavar="FILE")
    arguments = parser.parse_args()
    try:
        asyncio.run(serve(arguments))
    except (OSError, ValueError) as error:  # NotHooked and TimeoutError are OSErrors
        print(f"h3_server: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
