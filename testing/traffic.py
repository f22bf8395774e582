# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Traffic to UDP echo services: long-lived flows, and new ones all the time.

    python3 -m testing.traffic --out FILE --target NAME=ADDRESS:PORT [--target ...]

Prints ``ready`` once every long flow has been answered. Runs until its standard input
ends, SIGTERM, --limit, or when it is not ready after 30 s; then waits for the last
answers and writes what became of every flow (`testing.flows`). Exit status 1 after the
limit: what came later met no traffic.

The long flows of a host end a while after another generation first answered
there, and new ones take their place: so they outlive the switch, and the old
instance gets to the end of its drain.

With --out-of-service DIR a host of which DIR has a file gets no new flows, and its long ones
end: as if a balancer had taken it out.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import errno
import heapq
import itertools
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from testing.flows import LONG, SHORT, Flow, Instance, write

# A flow sends at this distance, half of what is promised (200 ms): room for a busy machine.
INTERVAL = 0.1
SHORT_PACKETS = 5
LONG_FLOWS = 50
SHORT_FLOWS_PER_SECOND = 20
# how long the old flows continue after a host's switch
HOLD = 3.0
# long, as a busy machine answers late
LOST_AFTER = 5.0
READY_LIMIT = 30.0
# To a host no port is used twice in a run: one that is used again within the flow
# timeout is no new flow.
PORTS = range(10000, 65000)


class ActiveFlow:
    """A flow that still sends, or waits for answers."""

    def __init__(
        self, record: Flow, sock: socket.socket, on_answer: Callable[[Flow, Instance, float], None]
    ) -> None:
        self.record = record
        self.sock = sock
        self.ending = False
        self._on_answer = on_answer
        self._pending: dict[int, float] = {}
        self._last_sent: float | None = None

    def tick(self, now: float) -> bool:
        """Give up on old packets and send the next; False when the flow is over."""
        record = self.record
        if self._overdue(now):
            # answers that came while this process did not run are not lost
            while self.receive():
                pass
        for number in self._overdue(now):
            del self._pending[number]
            record.lost += 1
        if record.kind == SHORT and record.sent >= SHORT_PACKETS:
            self.ending = True
        if self.ending:
            return bool(self._pending)
        # Like any client that opens a connection: no second packet before the first is answered.
        if record.answered or not self._pending:
            self._send(now)
        return True

    def _overdue(self, now: float) -> list[int]:
        return [number for number, sent in self._pending.items() if now - sent > LOST_AFTER]

    def _send(self, now: float) -> None:
        record = self.record
        if self._last_sent is not None and record.answered:
            record.longest_pause = max(record.longest_pause, now - self._last_sent)
        self._last_sent = now
        record.sent += 1
        self._pending[record.sent] = now
        # an ICMP error, or no route: the packet is lost, and counted so
        with contextlib.suppress(OSError):
            self.sock.send(b"%d" % record.sent)

    def receive(self) -> bool:
        """Take in one answer, ``NAME GENERATION PID NUMBER``; False when there is none."""
        try:
            answer = self.sock.recv(2048)
        except OSError:
            return False
        self._take_in(answer)
        return True

    def _take_in(self, answer: bytes) -> None:
        now = time.monotonic()
        try:
            name, generation, pid, number = answer.decode().split(" ")
            instance = Instance(int(generation), int(pid))
            sent = self._pending.pop(int(number), None)
        except ValueError:
            self.record.strange += 1
            return
        if name != self.record.host:
            self.record.strange += 1
        if sent is None:
            self.record.repeated += 1
        else:
            self.record.answered += 1
        self.record.note_answer(instance, now)
        self._on_answer(self.record, instance, now)


@dataclasses.dataclass
class Target:
    """A host's service, and what was seen of it. ports: of this machine, not used yet."""

    name: str
    address: tuple[str, int]
    ports: Iterator[int] = dataclasses.field(default_factory=lambda: iter(PORTS))
    # the newest that answered
    generation: int | None = None
    # flows that end when the hold after a switch is over
    long_flows: list[ActiveFlow] = dataclasses.field(default_factory=list)
    answered_long: int = 0
    is_out: bool = False


class Traffic:
    """Event loop: a heap of things to do at a time, and the sockets."""

    def __init__(
        self,
        targets: list[Target],
        long_flows: int | None = None,
        out_of_service: Path | None = None,
    ) -> None:
        self._out_of_service = out_of_service
        self._long_flows = LONG_FLOWS if long_flows is None else long_flows
        self.done: list[Flow] = []
        self._targets = {target.name: target for target in targets}
        for number, target in enumerate(targets):
            # each begins elsewhere, so that they seldom meet
            first = PORTS[len(PORTS) * number // len(targets)]
            target.ports = itertools.chain(range(first, PORTS.stop), range(PORTS.start, first))
        self._agenda: list[tuple[float, int, Callable[[float], None]]] = []
        self._turns = itertools.count()
        self._selector = selectors.DefaultSelector()
        self._active: set[ActiveFlow] = set()
        self._stopping = False
        self._over = False
        self._ready = False

    def run(self, limit: float) -> bool:
        """Send until standard input ends, then collect; False if the limit (seconds) came first."""
        self._selector.register(sys.stdin, selectors.EVENT_READ, self._input)
        started = time.monotonic()
        self._at(started + limit, lambda _: self._stop_at_limit())
        self._at(started + READY_LIMIT, lambda _: self._stop_unless_ready())
        for target in self._targets.values():
            self._start_long_flows(target, started)
            self._spawn(target, started)
        while self._active or not self._stopping:
            self._turn()
        return not self._over

    def _stop_at_limit(self) -> None:
        if not self._stopping:
            self._over = True
            self.stop()

    def stop(self) -> None:
        """Stop sending; `run` returns when every packet is answered or lost."""
        self._stopping = True
        for flow in self._active:
            flow.ending = True

    def _stop_unless_ready(self) -> None:
        if not self._ready:
            self.stop()

    def _turn(self) -> None:
        now = time.monotonic()
        while self._agenda and self._agenda[0][0] <= now:
            heapq.heappop(self._agenda)[2](now)
        wait = INTERVAL
        if self._agenda:
            wait = min(wait, max(0.0, self._agenda[0][0] - time.monotonic()))
        for key, _ in self._selector.select(wait):
            key.data()

    def _at(self, when: float, what: Callable[[float], None]) -> None:
        heapq.heappush(self._agenda, (when, next(self._turns), what))

    def _input(self) -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            self._selector.unregister(sys.stdin)
            self.stop()

    def _start_long_flows(self, target: Target, now: float) -> None:
        for number in range(self._long_flows):

            def start(when: float) -> None:
                if not self._stopping and not target.is_out:
                    target.long_flows.append(self._open(target, LONG, when))

            # spread over an interval, so that packets do not come in bursts
            self._at(now + INTERVAL * number / self._long_flows, start)

    def _spawn(self, target: Target, now: float) -> None:
        if self._stopping:
            return
        self._check_service(target, now)
        if not target.is_out:
            self._open(target, SHORT, now)
        self._at(now + 1 / SHORT_FLOWS_PER_SECOND, lambda when: self._spawn(target, when))

    def _check_service(self, target: Target, now: float) -> None:
        """Leave a host that is taken out, come back to one that is brought back."""
        is_out = self._out_of_service is not None and (self._out_of_service / target.name).exists()
        if is_out != target.is_out:
            target.is_out = is_out
            self._replace(target, now)

    def _open(self, target: Target, kind: str, now: float) -> ActiveFlow:
        sock = _bound(target.ports)
        sock.connect(target.address)
        flow = ActiveFlow(Flow(target.name, kind, now), sock, self._on_answer)
        self._selector.register(sock, selectors.EVENT_READ, flow.receive)
        self._active.add(flow)
        self._tick(flow, now, now)
        return flow

    def _tick(self, flow: ActiveFlow, due: float, now: float) -> None:
        if flow.tick(now):
            # from when it was due, not from now: a late packet does not delay those after it
            following = max(due + INTERVAL, now)
            self._at(following, lambda when: self._tick(flow, following, when))
            return
        self._selector.unregister(flow.sock)
        flow.sock.close()
        self._active.discard(flow)
        self.done.append(flow.record)

    def _on_answer(self, record: Flow, instance: Instance, now: float) -> None:
        target = self._targets[record.host]
        if target.generation is None:
            target.generation = instance.generation
        elif target.generation < instance.generation and record.runs[0].first == now:
            # A flow's first answer, from a newer generation: the host has switched.
            target.generation = instance.generation
            self._at(now + HOLD, lambda when: self._replace(target, when))
        if record.kind == LONG and record.answered == 1:
            target.answered_long += 1
            self._report_ready()

    def _replace(self, target: Target, now: float) -> None:
        for flow in target.long_flows:
            flow.ending = True
        target.long_flows.clear()
        self._start_long_flows(target, now)

    def _report_ready(self) -> None:
        if not self._ready and all(
            target.answered_long >= self._long_flows for target in self._targets.values()
        ):
            self._ready = True
            print("ready", flush=True)


def _bound(ports: Iterator[int]) -> socket.socket:
    """Return a socket bound to the next port that no flow to another host has."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    for port in ports:
        try:
            sock.bind(("", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return sock
    raise RuntimeError("every port was used: the run is too long")


def parse_target(text: str) -> Target:
    """Read NAME=ADDRESS:PORT."""
    name, _, place = text.partition("=")
    address, _, port = place.rpartition(":")
    if not name or not address:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=ADDRESS:PORT")
    return Target(name, (address, int(port)))


def main() -> int:
    """Run the traffic of the command line."""
    parser = argparse.ArgumentParser(description="traffic to UDP echo services")
    parser.add_argument("--target", action="append", required=True, type=parse_target)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds (default 1800)")
    parser.add_argument("--long-flows", type=int, help="of each target (default 50)")
    parser.add_argument("--out-of-service", type=Path, metavar="DIR")
    arguments = parser.parse_args()
    traffic = Traffic(arguments.target, arguments.long_flows, arguments.out_of_service)
    signal.signal(signal.SIGTERM, lambda *_: traffic.stop())
    in_time = traffic.run(arguments.limit)
    write(arguments.out, traffic.done)
    return 0 if in_time else 1


if __name__ == "__main__":
    sys.exit(main())
