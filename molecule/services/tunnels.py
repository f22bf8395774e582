# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Sessions with examples/tunnel_server.py, until standard input ends.

    tunnels.py PORT NAME=ADDRESS..

Each sends a message ten times a second and moves to another port half-way, as a client
behind a NAT does. Its server counts messages; an answer with another number than the
client's own shows that some other process has answered, or that one was lost.
"""

from __future__ import annotations

import random
import secrets
import selectors
import socket
import struct
import sys
import time

from sessions import Session, should_end, write

from examples.tunnel_server import INITIATION, INITIATION_SIZE, RESPONSE, TRANSPORT

#: Between the begins of two sessions with a host.
PAUSE_S = 0.25
INTERVAL_S = 0.1
SECONDS = (4.0, 9.0)
LOST_S = 2.0
READY_AFTER = 10


class Tunnel:
    """A session of a client, which changes its port half-way."""

    def __init__(self, host: str, place: tuple[str, int]) -> None:
        self.session = Session(host, time.time())
        self._place = place
        self._index = secrets.randbits(32)
        self._theirs = 0
        self._sent = 0
        self._moved = False
        self._messages = int(random.uniform(*SECONDS) / INTERVAL_S)
        self._due = 0.0
        self._deadline = time.monotonic() + LOST_S
        self.sock = self._socket()
        message = struct.pack("<II", INITIATION, self._index).ljust(INITIATION_SIZE, b"\0")
        self.sock.send(message)

    def _socket(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.connect(self._place)
        return sock

    @property
    def is_half_way(self) -> bool:
        """Return whether it is to move now: with every answer, and half of all messages sent."""
        return not self._moved and self._messages // 2 == self._sent == self.session.answers

    def move(self) -> None:
        """Continue from another port."""
        self._moved = True
        self.sock.close()
        self.sock = self._socket()

    def is_over(self, now: float) -> bool:
        """Return whether it has all answers, or has waited in vain."""
        answered = self.session.answers
        if self.session.problem or answered == self._messages:
            return True
        if now > self._deadline:
            self.session.problem = f"no answer to message {self._sent} for {LOST_S:g} s"
        return bool(self.session.problem)

    def tick(self, now: float) -> None:
        """Send the next message when it is time."""
        waits = not self.session.established or self.session.answers < self._sent
        if waits or now < self._due:
            return
        header = struct.pack("<IIQ", TRANSPORT, self._theirs, self._sent)
        self.sock.send(header + b"?")
        self._sent += 1
        self._due = now + INTERVAL_S
        self._deadline = now + LOST_S

    def receive(self) -> None:
        """Take in an answer."""
        try:
            answer = self.sock.recv(2048)
        except BlockingIOError:
            return
        except OSError as error:
            self.session.problem = str(error)
            return
        session = self.session
        if answer[0] == RESPONSE:
            self._theirs, ours = struct.unpack_from("<II", answer, 4)
            session.established = time.time()
        else:
            (ours,) = struct.unpack_from("<I", answer, 4)
            host, generation, _, number = answer[16:].decode().split()
            session.answered_by(int(generation))
            session.ended = time.time()
            if (host, int(number)) != (session.host, self._sent):
                session.problem = f"{host} has counted {number} messages of {self._sent}"
        if ours != self._index:
            session.problem = "an answer of another session"


class Tunnels:
    """The sessions that run, and those that have ended."""

    def __init__(self, places: dict[str, str], port: int) -> None:
        self.sessions: list[Session] = []
        self._places = {host: (address, port) for host, address in places.items()}
        self._running: set[Tunnel] = set()
        self._selector = selectors.DefaultSelector()

    def run(self) -> None:
        """Begin sessions until told to end, then wait for those that run."""
        ending, due, has_reported = False, 0.0, False
        while not ending or self._running:
            now = time.monotonic()
            if not ending and now >= due:
                due = now + PAUSE_S
                for host, place in self._places.items():
                    self._begin(Tunnel(host, place))
                ending = should_end(0)
            self._turn(now)
            if not has_reported and len(self.sessions) >= READY_AFTER * len(self._places):
                has_reported = True
                print("ready", flush=True)

    def _begin(self, tunnel: Tunnel) -> None:
        self.sessions.append(tunnel.session)
        self._running.add(tunnel)
        self._selector.register(tunnel.sock, selectors.EVENT_READ, tunnel)

    def _turn(self, now: float) -> None:
        for key, _ in self._selector.select(0.02):
            key.data.receive()
        for tunnel in list(self._running):
            if tunnel.is_over(now):
                self._running.discard(tunnel)
                self._selector.unregister(tunnel.sock)
                tunnel.sock.close()
                continue
            if tunnel.is_half_way:
                self._selector.unregister(tunnel.sock)
                tunnel.move()
                self._selector.register(tunnel.sock, selectors.EVENT_READ, tunnel)
            tunnel.tick(now)


def main() -> int:
    """Run the command line."""
    places = dict(word.split("=") for word in sys.argv[2:])
    tunnels = Tunnels(places, int(sys.argv[1]))
    tunnels.run()
    write(tunnels.sessions)
    return 0


if __name__ == "__main__":
    sys.exit(main())
