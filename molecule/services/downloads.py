# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Slow downloads over HTTP/3 from examples/h3_server.py, until standard input ends.

    downloads.py PORT NAME=ADDRESS..

Each has a connection of its own. When it is complete, a second, small one follows on the
same connection: the instance that answers that must have the connection's keys, and be the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
import ssl
import sys
import time
from typing import Any

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent
from sessions import Session, should_end, write

#: Between the begins of two downloads from a host.
PAUSE_S = 0.5
SECONDS = (4.0, 9.0)
BYTES = (40_000, 120_000)
LIMIT_S = 30.0


class Client(QuicConnectionProtocol):
    """A connection that asks for one download at a time."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._http = H3Connection(self._quic)
        self._headers: dict[bytes, bytes] = {}
        self._body = bytearray()
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def get(self, host: str, path: str) -> tuple[dict[bytes, bytes], bytes]:
        """Headers and body of the answer. Raises ConnectionError."""
        self._headers, self._body = {}, bytearray()
        self._done = asyncio.get_running_loop().create_future()
        request = {":method": "GET", ":scheme": "https", ":authority": host, ":path": path}
        headers = [(name.encode(), value.encode()) for name, value in request.items()]
        stream = self._quic.get_next_available_stream_id()
        self._http.send_headers(stream, headers, end_stream=True)
        self.transmit()
        await self._done
        return self._headers, bytes(self._body)

    def quic_event_received(self, event: QuicEvent) -> None:
        """Handle an event."""
        if isinstance(event, ConnectionTerminated) and not self._done.done():
            self._done.set_exception(ConnectionError(event.reason_phrase or "terminated"))
        for part in self._http.handle_event(event):
            if isinstance(part, HeadersReceived):
                self._headers.update(part.headers)
            elif isinstance(part, DataReceived):
                self._body += part.data
            else:
                continue
            if part.stream_ended and not self._done.done():
                self._done.set_result(None)


async def download(client: Client, session: Session, name: str, size: int, seconds: float) -> None:
    """Ask for one, and look what came."""
    path = f"/download?bytes={size}&seconds={seconds:.2f}&name={name}"
    headers, body = await client.get(session.host, path)
    if body != hashlib.shake_128(name.encode()).digest(size):
        session.problem = f"{len(body)} of {size} bytes, and not the right ones: {headers}"
        return
    host, generation, _ = headers[b"server"].decode().split()
    if host != session.host:
        session.problem = f"{host} answered"
    session.answered_by(int(generation))


async def visit(session: Session, address: str, port: int, number: int) -> None:
    """Make a connection, download over it, and end it. Raises OSError."""
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE
    )
    async with connect(
        address, port, configuration=configuration, create_protocol=Client
    ) as client:
        assert isinstance(client, Client)
        session.established = time.time()
        name = f"{session.host}-{number}"
        size, seconds = random.randint(*BYTES), random.uniform(*SECONDS)
        await download(client, session, name, size, seconds)
        if not session.problem:
            await download(client, session, f"{name}-again", 100, 0)
        session.ended = time.time()


async def attempt(session: Session, *what: Any) -> None:
    """Visit a server; errors are noted."""
    try:
        await asyncio.wait_for(visit(session, *what), LIMIT_S)
    except (OSError, asyncio.TimeoutError) as error:
        session.problem = f"{type(error).__name__}: {error}"


async def visitors(places: dict[str, str], port: int) -> list[Session]:
    """Begin downloads until told to end, then wait for those that run."""
    sessions: list[Session] = []
    running: list[asyncio.Task[None]] = []
    ending = asyncio.ensure_future(asyncio.to_thread(should_end, 600.0))
    for number in itertools.count():
        for host, address in places.items():
            sessions.append(Session(host, time.time()))
            running.append(asyncio.ensure_future(attempt(sessions[-1], address, port, number)))
        await asyncio.wait([ending], timeout=PAUSE_S)
        if number == 2:
            print("ready", flush=True)
        if ending.done():
            break
    await asyncio.gather(*running)
    return sessions


def main() -> int:
    """Run the command line."""
    places = dict(word.split("=") for word in sys.argv[2:])
    write(asyncio.run(visitors(places, int(sys.argv[1]))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
