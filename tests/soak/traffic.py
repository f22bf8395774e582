# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Flows that come and go at a constant rate, and what became of each of their packets.

    python -m tests.soak.traffic PORT FLOWS PACKETS_PER_SECOND LIFE_S

Runs until its standard input ends, lets the last answers come in, and prints
one JSON object. The server answers "GENERATION PAYLOAD".
"""

from __future__ import annotations

import contextlib
import json
import random
import select
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Optional

_TICK_S = 0.005
_GRACE_S = 1.0


@dataclass
class Flow:
    """A client: a connected socket."""

    sock: socket.socket
    ends: float
    sent: int = 0
    answered: int = 0
    generation: Optional[bytes] = None


@dataclass
class Count:
    """The counts of all packets."""

    flows: int = 0
    sent: int = 0
    answered: int = 0
    moved: int = 0
    flows_with_loss: int = 0
    lost: int = 0
    generations: dict[str, int] = field(default_factory=dict)
    behind_s: float = 0.0  # how late the generator was at worst


class Traffic:
    """The flows there are."""

    def __init__(self, port: int, flows: int, life: float) -> None:
        self.count = Count()
        self._port = port
        self._life = life
        self._poll = select.epoll()
        self._by_fd: dict[int, Flow] = {}
        self._closing: list[Flow] = []
        now = time.monotonic()
        # ends spread over a life, as if they had run for long
        self.flows = [self._open(now + life * random.random()) for _ in range(flows)]

    def _open(self, ends: float) -> Flow:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.connect(("127.0.0.1", self._port))
        flow = Flow(sock, ends)
        self._by_fd[sock.fileno()] = flow
        self._poll.register(sock.fileno(), select.EPOLLIN)
        self.count.flows += 1
        return flow

    def send(self, position: int, now: float) -> None:
        """Send the next packet of a flow, or of the one that takes its place."""
        flow = self.flows[position]
        if now > flow.ends:
            flow.ends = now + _GRACE_S
            self._closing.append(flow)
            flow = self.flows[position] = self._open(now + self._life * (0.5 + random.random()))
        flow.sock.send(b"#%d" % flow.sent)
        flow.sent += 1

    def receive(self, timeout: float) -> None:
        """Take all answers there are."""
        for fd, _ in self._poll.poll(timeout, 4096):
            flow = self._by_fd[fd]
            with contextlib.suppress(BlockingIOError):
                while True:
                    self._answer(flow, flow.sock.recv(100))

    def _answer(self, flow: Flow, data: bytes) -> None:
        generation, _, _ = data.partition(b" ")
        flow.answered += 1
        if flow.generation is None:
            flow.generation = generation
            name = generation.decode()
            self.count.generations[name] = self.count.generations.get(name, 0) + 1
        elif flow.generation != generation:
            self.count.moved += 1
            flow.generation = generation

    def close_ended(self, now: float) -> None:
        """Settle flows whose last answers have had their time."""
        while self._closing and self._closing[0].ends < now:
            self._settle(self._closing.pop(0))

    def _settle(self, flow: Flow) -> None:
        self._poll.unregister(flow.sock.fileno())
        del self._by_fd[flow.sock.fileno()]
        flow.sock.close()
        self.count.sent += flow.sent
        self.count.answered += flow.answered
        self.count.lost += flow.sent - flow.answered
        self.count.flows_with_loss += flow.sent != flow.answered

    def end(self) -> None:
        """Wait for the last answers and settle everything."""
        deadline = time.monotonic() + _GRACE_S
        while (left := deadline - time.monotonic()) > 0:
            self.receive(left)
        for flow in [*self._closing, *self.flows]:
            self._settle(flow)


def main() -> int:
    """Run as the module's text says."""
    port, flows, rate, life = (float(word) for word in sys.argv[1:])
    traffic = Traffic(int(port), int(flows), life)
    stop = select.poll()
    stop.register(0, select.POLLIN | select.POLLHUP)
    begun = time.monotonic()
    done = 0
    print("running", flush=True)
    while not stop.poll(0):
        now = time.monotonic()
        due = int((now - begun) * rate)
        traffic.count.behind_s = max(traffic.count.behind_s, (due - done) / rate - _TICK_S)
        for number in range(done, due):
            traffic.send(number % len(traffic.flows), now)
            if number % 64 == 63:
                traffic.receive(0)
        done = due
        traffic.close_ended(now)
        traffic.receive(_TICK_S)
    traffic.end()
    print(json.dumps({**vars(traffic.count), "seconds": round(time.monotonic() - begun, 1)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
